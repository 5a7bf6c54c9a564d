"""Uses the C interface through ctypes. Arguments: the shared object, a model, a text to score."""
import ctypes as c
import math
import sys

library, path, text = sys.argv[1:4]
lib = c.CDLL(library)


class Score(c.Structure):
    _fields_ = [("loss", c.c_double), ("bits_per_byte", c.c_double), ("tokens", c.c_int64),
                ("bytes", c.c_int64), ("valid", c.c_int)]


lib.fairway_version.restype = c.c_char_p
lib.fairway_close.argtypes = [c.c_void_p]
lib.fairway_vocab_size.argtypes = [c.c_void_p]
lib.fairway_score.argtypes = [c.c_void_p, c.c_char_p, c.c_size_t, c.c_int, c.POINTER(Score), c.c_char_p, c.c_size_t]
lib.fairway_generate.argtypes = [c.c_void_p, c.c_char_p, c.c_int, c.c_double, c.c_int, c.c_uint64, c.c_char_p,
                                 c.c_size_t, c.c_char_p, c.c_size_t]
assert lib.fairway_version().startswith(b"fairway ")

error = c.create_string_buffer(200)
model = c.c_void_p()
assert lib.fairway_open(b"none.fairway", 1, c.byref(model), error, len(error)) == 2
assert b"none.fairway" in error.value and not model
assert lib.fairway_open(path.encode(), 1, c.byref(model), error, len(error)) == 0, error.value
assert lib.fairway_vocab_size(model) == 320

score = Score()
raw = text.encode()
assert lib.fairway_score(model, raw, len(raw), 0, c.byref(score), error, len(error)) == 0, error.value
assert score.valid == 1 and score.bytes == len(raw)
assert abs(score.bits_per_byte - score.loss * score.tokens / score.bytes / math.log(2)) < 1e-9
assert lib.fairway_score(model, b"\xff", 1, 0, c.byref(score), error, len(error)) == 2

out = c.create_string_buffer(400)
assert lib.fairway_generate(model, b"The ", 20, 0.0, 0, 1, out, len(out), error, len(error)) == 0, error.value
lib.fairway_close(model)
print(repr(score.bits_per_byte))
