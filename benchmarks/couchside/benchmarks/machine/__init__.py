"""What the benchmarks must know about the machine: board, throttling, power, clocks."""
