"""The pure core: frozen data and functions over it. No I/O, no clock but deadlines, no EvalScope."""
