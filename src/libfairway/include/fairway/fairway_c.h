#ifndef FAIRWAY_C_H
#define FAIRWAY_C_H
/* The same library for C and for foreign-function interfaces such as Python's ctypes.
 * Functions return 0, or 2 (input), 1 (failure), 130 (interrupted) with one line in `error` (always
 * terminated, cut to `error_size`; may be null with size 0). A model is used by one thread at a time. */

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define FAIRWAY_C_API __attribute__((visibility("default")))

typedef struct fairway_model fairway_model;

typedef struct {
  double loss; /* nats per token */
  double bits_per_byte;
  int64_t tokens, bytes;
  int valid; /* 1: a code length */
} fairway_score_result;

FAIRWAY_C_API const char* fairway_version(void);
FAIRWAY_C_API int fairway_open(const char* path, int threads, fairway_model** model, char* error,
                               size_t error_size);
FAIRWAY_C_API void fairway_close(fairway_model* model);
FAIRWAY_C_API int fairway_vocab_size(const fairway_model* model);
/* Writes at most `capacity` ids and the number needed. */
FAIRWAY_C_API int fairway_encode(const fairway_model* model, const char* text, size_t bytes, int32_t* ids,
                                 size_t capacity, size_t* count, char* error, size_t error_size);
/* Scores a text as one document; stride 0: windows without overlap, -1: the recipe's. */
FAIRWAY_C_API int fairway_score(const fairway_model* model, const char* text, size_t bytes, int stride,
                                fairway_score_result* result, char* error, size_t error_size);
/* Logits [vocab_size] of the token after `ids`. */
FAIRWAY_C_API int fairway_logits(const fairway_model* model, const int32_t* ids, size_t count, float* logits,
                                 char* error, size_t error_size);
/* Writes terminated UTF-8, cut between characters to `capacity`; a null prompt is an empty one. */
FAIRWAY_C_API int fairway_generate(const fairway_model* model, const char* prompt, int tokens,
                                   double temperature, int top_k, uint64_t seed, char* text, size_t capacity,
                                   char* error, size_t error_size);

#ifdef __cplusplus
}
#endif
#endif
