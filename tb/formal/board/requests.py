"""Every request of the host becomes exactly its access or event, and has its answer."""

from amaranth.hdl import Cat, Mux

from hw.board.packet import packet
from hw.board.requests import Requests
from model.board.protocol import EVENT, PAYLOAD, READ, UNKNOWN, WAS_READ, WRITE, WRITTEN
from tb.formal.harness import Harness, Proof

BEGIN, ANSWER, COLLECT, ACCESS, EVENT_STATE, DEAF = range(6)
"""The block's states, in the order in which they are named."""
LETTERS = {kind: kind[0] for kind in PAYLOAD}


class Request:
    """The request that the bytes make up, as the specification keeps it."""

    def __init__(self, h: Harness, block: Requests) -> None:
        self.n_bytes = h.register("n_bytes", 4)
        """Of a request that is not complete, the letter included."""
        self.kind = h.register("kind", 8)
        self.payload = h.register("payload", 64)
        self.complete = h.register("complete", 1)
        self.unknown = h.register("unknown", 1)
        self.deaf = h.register("deaf", 1)
        byte = block.received.payload
        comes = h.define("comes", block.received.valid & block.received.ready & ~self.deaf)
        is_letter = h.define("is_letter", Cat(byte.value == k for k in LETTERS.values()).any())
        first = self.n_bytes == 0
        wrong = h.define("wrong", comes & (byte.lost | (first & ~is_letter)))
        last = h.define("last", comes & ~first & (self.n_bytes == self.length()))
        ends = h.define(
            "ends",
            (block.answers.valid & block.answers.ready) | (block.events.valid & block.events.ready),
        )
        h.next(self.n_bytes, Mux(wrong | last, 0, self.n_bytes + 1), comes)
        h.next(self.kind, byte.value, comes & first)
        for k in range(8):
            part = self.payload.word_select(k, 8)
            h.next(part, byte.value, comes & (self.n_bytes == k + 1))
        h.next(self.complete, ~ends, wrong | last | ends)
        h.next(self.unknown, wrong, wrong | ends)
        h.next(self.deaf, 1, ends & self.unknown)
        self.ends = ends

    def length(self):
        """Bytes behind the letter."""
        return Mux(self.kind == LETTERS[READ], PAYLOAD[READ], PAYLOAD[WRITE])

    def of(self, kind: bytes):
        """Whether a complete one is of this kind."""
        return self.complete & ~self.unknown & (self.kind == LETTERS[kind])


def state(h: Harness) -> None:
    """From bytes to accesses, and from responses to answers."""
    block = h.block(Requests())
    axil, events, answers = block.axil, block.events, block.answers
    request = Request(h, block)
    done = {}
    for name, valid, ready in (
        ("aw", axil.awvalid, axil.awready),
        ("w", axil.wvalid, axil.wready),
        ("ar", axil.arvalid, axil.arready),
        ("b", axil.bvalid, axil.bready),
        ("r", axil.rvalid, axil.rready),
    ):
        done[name] = h.register(f"{name}_done", 1)
        now = h.define(f"{name}_now", valid & ready)
        h.next(done[name], ~request.ends, now | request.ends)
    h.assume("b_answers", done["aw"] & done["w"] & ~done["b"], axil.bvalid)
    h.assume("r_answers", done["ar"] & ~done["r"], axil.rvalid)
    resp, word = h.register("resp", 2), h.register("word", 32)
    h.next(resp, axil.bresp, axil.bvalid & axil.bready)
    h.next(resp, axil.rresp, axil.rvalid & axil.rready)
    h.next(word, axil.rdata, axil.rvalid & axil.rready)

    h.always("takes_bytes_between_requests", block.received.ready == ~request.complete)
    h.holds("aw", axil.awvalid, axil.awready, axil.awaddr)
    h.holds("w", axil.wvalid, axil.wready, axil.wdata)
    h.holds("ar", axil.arvalid, axil.arready, axil.araddr)
    h.holds("event", events.valid, events.ready, events.payload)
    h.holds("answer", answers.valid, answers.ready, answers.payload)
    address, data = request.payload[:32], request.payload[32:]
    h.always("writes_address", axil.awvalid == (request.of(WRITE) & ~done["aw"]))
    h.always("writes_data", axil.wvalid == (request.of(WRITE) & ~done["w"]))
    h.always("reads", axil.arvalid == (request.of(READ) & ~done["ar"]))
    h.always("sends", events.valid == request.of(EVENT))
    h.always("aw_right", axil.awaddr == address, axil.awvalid)
    h.always("w_right", (axil.wdata == data) & (axil.wstrb == 0xF), axil.wvalid)
    h.always("ar_right", axil.araddr == address, axil.arvalid)
    h.always("event_right", events.payload == request.payload, events.valid)
    answered = (request.of(WRITE) & done["b"]) | (request.of(READ) & done["r"])
    h.always("answers", answers.valid == (answered | (request.complete & request.unknown)))
    resp_byte = Cat(resp, *[resp[0] & ~resp[0]] * 6)
    for name, when, right in (
        ("written", request.of(WRITE), packet(WRITTEN, resp_byte)),
        ("was_read", request.of(READ), packet(WAS_READ, Cat(resp_byte, word))),
        ("unknown", request.complete & request.unknown, packet(UNKNOWN)),
    ):
        h.always(f"{name}_right", answers.payload.as_value() == right, answers.valid & when)
        h.reached(name, answers.valid & answers.ready & when)
    h.reached("event", request.ends & request.of(EVENT))
    h.reached("refused", answers.valid & request.of(WRITE) & (resp == 2))
    h.reached("drops", request.deaf & block.received.valid)
    invariants(h, request, done, resp, word)


def invariants(h: Harness, request: Request, done, resp, word) -> None:
    """What the block's registers mean: without this an induction could begin anywhere."""
    fsm, n_left = h.probe("fsm_state", 3), h.probe("n_left", 4)
    kind, payload = h.probe("kind", 8), h.probe("payload", 64)
    held_resp, held_word = h.probe("resp", 8), h.probe("word", 32)
    known = h.define("known", Cat(request.kind == k for k in LETTERS.values()).any())
    idle = ~request.complete
    collecting = idle & (request.n_bytes != 0)
    answered = done["b"] | done["r"]
    h.always("state_begin", (fsm == BEGIN) == (idle & ~request.deaf & (request.n_bytes == 0)))
    h.always("state_collect", (fsm == COLLECT) == (collecting & ~request.deaf))
    access = (request.of(WRITE) | request.of(READ)) & ~answered
    h.always("state_access", (fsm == ACCESS) == access)
    h.always("state_event", (fsm == EVENT_STATE) == request.of(EVENT))
    h.always("state_deaf", (fsm == DEAF) == request.deaf)
    h.always("states", fsm <= DEAF)
    h.always("one_of_them", ~(request.deaf & (request.complete | request.unknown)))
    h.always("nothing_collected", request.n_bytes == 0, request.complete | request.deaf)
    h.always("unknown_is_complete", request.complete, request.unknown)
    right_kind = known & (kind == request.kind)
    h.always("kind_right", right_kind, collecting | (request.complete & ~request.unknown))
    unanswerable = (kind != LETTERS[WRITE]) & (kind != LETTERS[READ])
    h.always("kind_of_unknown", unanswerable, request.unknown)
    h.always("n_bytes_possible", request.n_bytes <= request.length())
    h.always("n_left_right", n_left == request.length() + 1 - request.n_bytes, collecting)
    for k in range(1, 9):
        have = request.n_bytes == k + 1
        h.always(f"holds_{k}", payload[64 - 8 * k :] == request.payload[: 8 * k], have)
    h.always("holds_all", payload == request.payload, request.of(WRITE) | request.of(EVENT))
    h.always("holds_address", payload[32:] == request.payload[:32], request.of(READ))
    h.always("done_of_write", ~(done["ar"] | done["r"]), ~request.of(READ))
    h.always("done_of_read", ~(done["aw"] | done["w"] | done["b"]), ~request.of(WRITE))
    h.always("b_behind", done["aw"] & done["w"], done["b"])
    h.always("r_behind", done["ar"], done["r"])
    h.always("resp_held", held_resp == resp, answered)
    h.always("word_held", held_word == word, done["r"])


PROOFS = (
    Proof(
        name="serial_requests",
        says="bytes of the line become exactly the accesses and events that they ask for, each "
        "with its answer; what is none is said to be none, and nothing behind it is done",
        state=state,
        depth=2,
        reach=20,
    ),
)
