"""What a layer costs on each device: area, energy, time; arrays alone, and with converters."""
