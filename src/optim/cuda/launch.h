#pragma once
// The optimiser's kernels as seen from the host: tables in device memory, raw pointers, launchers that queue
// on a stream, allocate nothing and can be captured. One launch covers all parameters: a table of pieces of
// at most `piece_elements` says which block does what. No atomics anywhere; every sum is over one piece in
// the order of threads, then over pieces in the order of the table, so that the layout alone decides the
// order.

#include <cuda_runtime_api.h>

#include <cstdint>

#include "fairway/base/range.h"
#include "fairway/optim/step_values.h"
#include "fairway/optim/update_rule.h"
#include "rules/scalars.h"

namespace fairway::optim::cuda {

inline constexpr int piece_elements = 8192;

/// Part of entry `entry` of a table: elements [begin, begin + count) of it.
struct Piece {
  std::int32_t entry, count;
  std::int64_t begin;
};

struct PieceTable {
  const Piece* pieces = nullptr;
  std::int64_t count = 0;
};

/// What a step finds out. `bad` stays set until it is cleared; while it is, nothing else changes.
struct StepState {
  double norm;
  float clip;
  std::int32_t bad;
};

// norm.cu

/// A part of the flat buffers with one rule; `moments` is its place in the arrays of moments.
struct UpdateRange {
  std::int64_t begin = 0, moments = 0;
  double lr_factor = 1;
  std::int32_t rate = 0;
  rules::Rounding rounding = rules::Rounding::none;
  UpdateRule rule = {};
};

/// partial[i] = sum of squares of piece i, in fp64; entry k of the table begins at begins[k].
void norm_pieces(cudaStream_t, const PieceTable&, const std::int64_t* begins, const float* gradients,
                 double* partial);
/// What a step's ranks came to so far.
struct RankState {
  double norms;  ///< of the ranks, added up
  float clip;    ///< of the newest rank
  std::int32_t bad;
};
struct FinishNorm {
  const double* partial;
  std::int64_t pieces;
  double max_norm;        ///< 0: no clipping
  const RankState* rank;  ///< not null: the norm is the mean of its norms, and nothing is left to clip
  std::int32_t ranks;
  const StepValues* scheduled;
  StepState* state;
  const UpdateRange* ranges;
  std::int64_t range_count;
  std::int64_t* counters;   ///< one per range, counted here
  rules::Scalars* scalars;  ///< one per range, written here
  std::int64_t* ema_count;  ///< counted up when this step starts or updates the EMA; may be null
};
/// Norm, clip factor and flag; with a clear flag also the counters and scalars of all ranges.
void finish_norm(cudaStream_t, const FinishNorm&);

// rank_sum.cu

struct AddRank {
  const double* partial;  ///< of norm_pieces over the rank's part
  std::int64_t pieces;
  std::int32_t ranks;
  double max_norm;
  RankState* rank;
  const StepState* state;
  std::int64_t n;
  float *gradients, *sum;
};
/// sum <- sum + min(1, max_norm / (ranks |gradients| + 1e-6)) gradients, unless something is bad;
/// gradients <- 0.
void add_rank(cudaStream_t, const AddRank&);

// update.cu

struct Update {
  PieceTable pieces;
  const UpdateRange* ranges;
  const rules::Scalars* scalars;
  const StepState* state;
  float* values;
  const float* gradients;
  float *first, *second;  ///< moments
};
void update_ranges(cudaStream_t, const Update&);

// muon.cu

/// A matrix: its place in the flat buffers, in the momentum array and in the workspace of its batch.
struct Matrix {
  std::int64_t begin, momentum, workspace;
  std::int32_t first_piece, pieces;  ///< of this matrix in the table
  std::int32_t columns;
  double shape;  ///< sqrt(max(1, rows / columns))
  double lr_factor;
};

struct MuonPass {
  PieceTable pieces;
  const Matrix* matrices;
  const StepValues* scheduled;
  const StepState* state;
  std::int32_t rate;
  double weight_decay;
  bool bf16;             ///< what the workspaces hold; else f32
  bool row_norm;         ///< rows of the direction get length 1; pieces are whole rows then
  bool narrow_momentum;  ///< momentum and direction are rounded to bf16
  float* values;
  const float* gradients;
  float* momentum;
  void *x, *o;      ///< workspaces: the iteration's start and its result (the same or another)
  double* partial;  ///< one per piece
};
/// Momentum, Nesterov's direction into x (rounded to its type), and the sum of squares of each piece of it.
void muon_direction(cudaStream_t, const MuonPass&);
/// x <- x / (|x| + 1e-7), in bf16 rounding as docs/spec/training.md section 4 does.
void muon_normalise(cudaStream_t, const MuonPass&);
/// Weight decay and step along o.
void muon_apply(cudaStream_t, const MuonPass&);

// decay.cu

struct DecayedMatrix {
  std::int64_t begin;  ///< in the flat buffers
  double lr_factor, weight_decay;
  std::int32_t rate;
};
struct Decay {
  PieceTable pieces;
  const DecayedMatrix* matrices;
  const StepValues* scheduled;
  const StepState* state;
  float* values;
};
/// values <- values (1 - lr weight_decay StepValues::decay_scale). Nothing while the flag is set.
void decay_matrices(cudaStream_t, const Decay&);

// average.cu

struct Ema {
  const StepValues* scheduled;
  const StepState* state;
  std::int64_t n;
  float keep, take;
  bool bf16;  ///< rounds the average on each store
  const float* values;
  float* average;
};
/// average <- keep average + take values; or what else `scheduled` says.
void ema_update(cudaStream_t, const Ema&);
/// sum <- sum + values (the first time: values), rounded to bf16 in `narrow` ranges (sorted).
void swa_add(cudaStream_t, const StepState*, std::int64_t n, const base::Range* narrow, std::int64_t ranges,
             const float* values, float* sum, const std::int64_t* count);
/// Afterwards: one more.
void swa_count_up(cudaStream_t, const StepState*, std::int64_t* count);
/// values <- values rounded to bf16.
void round_values(cudaStream_t, std::int64_t n, float* values);

// mean_squares.cu

/// A matrix's pieces in the table that norm_pieces went through.
struct SquaredMatrix {
  std::int64_t first_piece, pieces;
  double elements;
};
struct MeanSquaresPass {
  const double* partial;  ///< of norm_pieces
  const SquaredMatrix* matrices;
  std::int64_t count;
  const StepState* state;
  double* sums;  ///< one for each matrix, then the number of steps
};
/// sums[i] += the mean square of matrix i; the last one counts. Nothing while the flag is set.
void add_mean_squares(cudaStream_t, const MeanSquaresPass&);

}  // namespace fairway::optim::cuda
