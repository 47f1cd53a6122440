"""Loss mathematics: module-level pure functions, tensors and keyword-only floats in, tensors out, sums over units."""
