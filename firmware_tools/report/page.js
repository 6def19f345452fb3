// What a report's controls do. Charts are Bokeh's models, found by their ids.
"use strict";
(() => {
  // Without any line an axis would have no range.
  const NOTHING = { xs: [[0]], ys: [[0]], colour: ["transparent"], name: ["nothing is chosen"] };

  const model = (id) => Bokeh.documents.map((d) => d.get_model_by_id(id)).find((m) => m !== null);

  // Axes, grids and legends in the colours of the page, light or dark.
  function paint() {
    const style = getComputedStyle(document.documentElement);
    const [text, line, back] = ["--text", "--line", "--back"].map((v) => style.getPropertyValue(v));
    const colours = {
      major_label_text_color: text, axis_label_text_color: text, axis_line_color: line,
      major_tick_line_color: line, minor_tick_line_color: null, grid_line_color: line,
      title_text_color: text, label_text_color: text, background_fill_color: back,
      border_fill_color: back, border_line_color: line, outline_line_color: line,
    };
    for (const document_ of Bokeh.documents) {
      for (const one of document_._all_models.values()) {
        if (!/Axis$|Grid$|^Legend$|^ColorBar$|^Figure$/.test(one.type)) continue;
        const own = {};
        for (const [name, colour] of Object.entries(colours)) {
          if (name in one.properties) own[name] = colour;
        }
        one.setv(own);
      }
    }
  }

  // Lines of the chosen names: columns of a store become lines of every chart.
  function choose(select) {
    const names = Array.from(select.selectedOptions, (o) => o.value);
    const palette = JSON.parse(select.dataset.colours);
    for (const [storeId, sourceId] of JSON.parse(select.dataset.charts)) {
      const store = model(storeId);
      const x = Array.from(store.get_column("x"));
      model(sourceId).data = names.length === 0 ? NOTHING : {
        xs: names.map(() => x),
        ys: names.map((name) => Array.from(store.get_column(name))),
        colour: names.map((_, k) => palette[k % palette.length]),
        name: names.map((name) => Array.from(select.options).find((o) => o.value === name).text),
      };
    }
  }

  // Two numbers move a range; zooming in a chart moves the numbers.
  function span(controls) {
    const range = model(controls.dataset.range);
    const [from, to] = controls.querySelectorAll("input");
    const whole = [range.start, range.end];
    const show = () => {
      from.value = Math.round(range.start);
      to.value = Math.round(range.end);
    };
    const set = () => {
      const [a, b] = [from.valueAsNumber, to.valueAsNumber];
      if (a < b) range.setv({ start: a, end: b });
    };
    from.addEventListener("change", set);
    to.addEventListener("change", set);
    controls.querySelector("button").addEventListener("click", () =>
      range.setv({ start: whole[0], end: whole[1] }));
    range.change.connect(show);
    show();
  }

  // Rows that every filter lets through.
  function filter(controls) {
    const table = document.getElementById(controls.dataset.table);
    const rows = Array.from(table.tBodies[0].rows);
    const fields = Array.from(controls.querySelectorAll("select, input"));
    const shown = controls.querySelector("output");
    const apply = () => {
      let count = 0;
      for (const row of rows) {
        row.hidden = !fields.every((field) => field.tagName === "SELECT"
          ? !field.value || row.cells[field.dataset.column].textContent === field.value
          : row.textContent.toLowerCase().includes(field.value.toLowerCase()));
        count += !row.hidden;
      }
      shown.textContent = `${count.toLocaleString("en")} of ${rows.length.toLocaleString("en")} rows`;
    };
    for (const field of fields) {
      field.addEventListener(field.tagName === "SELECT" ? "change" : "input", apply);
    }
    apply();
  }

  // A film, frame by frame.
  function frames(controls) {
    const images = JSON.parse(document.getElementById(controls.dataset.images).textContent);
    const picture = document.getElementById(controls.dataset.picture);
    const slider = controls.querySelector("input");
    const text = controls.querySelector("output");
    const show = () => {
      const [source, label] = images[slider.valueAsNumber];
      picture.src = source;
      picture.alt = text.textContent = label;
    };
    slider.addEventListener("input", show);
    show();
  }

  function start() {
    if (window.Bokeh && Bokeh.documents.length === 0 && document.querySelector("[data-root-id]")) {
      requestAnimationFrame(start);
      return;
    }
    if (window.Bokeh) {
      const dark = matchMedia("(prefers-color-scheme: dark)");
      if (dark.matches) paint(); // they are drawn for a light page
      dark.addEventListener("change", paint);
    }
    for (const select of document.querySelectorAll("select[data-charts]")) {
      select.addEventListener("change", () => choose(select));
    }
    document.querySelectorAll("[data-range]").forEach(span);
    document.querySelectorAll("[data-table]").forEach(filter);
    document.querySelectorAll("[data-images]").forEach(frames);
    document.documentElement.dataset.ready = "yes";
  }
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})();
