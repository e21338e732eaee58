// Parts of both passes of the loop over time: sizes, the layout of the saved values, weights, and blocks of sequences.
//
// Plain C++ without torch: arrays come as pointers, and each pointer's shape is given where it is declared. N sequences
// of T steps, P features of the posterior's hidden layer, Z latent and H recurrent features, L layers.
//
// Inside, an array is (features, columns) with one sequence per column, and one instruction computes several columns. The
// arithmetic of a column does not depend on the other columns or on their number. Columns are divided into blocks that
// fit into the cache. Each block runs through all steps, and blocks run in parallel on the given number of threads.

#pragma once

#include "columns.h"

namespace {

constexpr int64_t MAX_COLUMNS = 64;  // of a block

// As `_Sizes` of models/ops/gru_loop_kernel.py passes them. Values saved for backward are (chunks, rows, pitch): `chunk`
// steps per chunk, each of `columns()` columns.
struct Sizes {
    int64_t sequences, steps, hidden, latent, recurrent, layers, threads, chunk, pitch;

    int64_t columns() const { return padded(sequences, COLUMNS); }
    // The offset of a step's columns.
    int64_t place(int64_t step, int64_t rows, int64_t first) const {
        return step / chunk * rows * pitch + step % chunk * columns() + first;
    }
};

// Rows of the values saved for backward.
struct Saved {
    int64_t silu, derivative, code, opening, first_layer, of_layer, rows;
    // within a layer
    int64_t state, reset, update, candidate, recurrent;

    explicit Saved(const Sizes& s)
        : silu(0), derivative(s.hidden), code(2 * s.hidden), opening(code + s.latent), first_layer(opening + s.latent),
          of_layer(5 * s.recurrent), rows(first_layer + s.layers * of_layer), state(0), reset(s.recurrent),
          update(2 * s.recurrent), candidate(3 * s.recurrent), recurrent(4 * s.recurrent) {}
};

// Rows of the gradients of intermediate values. Products of these with the saved values give the weights' gradients.
struct Gradients {
    int64_t hidden, raw, first_layer, of_layer, rows;

    explicit Gradients(const Sizes& s)
        : hidden(0), raw(s.hidden), first_layer(raw + 2 * s.latent), of_layer(4 * s.recurrent),
          rows(first_layer + s.layers * of_layer) {}
};

// In the order of models.ops.gru_loop.weights.
struct Weights {
    const float *state, *output, *output_bias, *latent;
    const float *const *of_layers, *const *between;  // recurrent and its bias of L layers, below and its bias of L - 1

    Weights(const float* const* from, int64_t layers)
        : state(from[0]), output(from[1]), output_bias(from[2]), latent(from[3]), of_layers(from + 4),
          between(from + 4 + 2 * layers) {}
    const float* recurrent(int64_t layer) const { return of_layers[2 * layer]; }
    const float* recurrent_bias(int64_t layer) const { return of_layers[2 * layer + 1]; }
    const float* below(int64_t layer) const { return between[2 * (layer - 1)]; }
    const float* below_bias(int64_t layer) const { return between[2 * (layer - 1) + 1]; }
};

template <class RunWeights, class Run>
void over_blocks(const Run& run) {
    const RunWeights weights(run.sizes, run.weights);
    const int64_t blocks = (run.sizes.sequences + run.block - 1) / run.block;
#pragma omp parallel for num_threads(static_cast<int>(std::min(run.sizes.threads, blocks))) if (run.sizes.threads > 1 && blocks > 1)
    for (int64_t block = 0; block < blocks; ++block) {
        const int64_t first = block * run.block;
        through_time(run, weights, first, std::min(run.block, run.sizes.sequences - first));
    }
}

// Enough blocks for all threads, and none wider than what fits into the cache.
int64_t block_of(const Sizes& sizes) {
    return std::clamp(padded((sizes.sequences + sizes.threads - 1) / sizes.threads, COLUMNS), COLUMNS, MAX_COLUMNS);
}

Sizes sizes_of(const int64_t* from) {
    return {from[0], from[1], from[2], from[3], from[4], from[5], from[6], from[7], from[8]};
}

}  // namespace
