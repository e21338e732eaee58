// The loop over time of an MM-VRNN with a GRU, forward and backward pass: the kernel of models/ops/gru_loop.py.
//
// Plain C++ without torch: arrays come as pointers, and each pointer's shape is given where it is declared. N sequences
// of T steps, P features of the posterior's hidden layer, Z latent and H recurrent features, L layers.
//
// Inside, an array is (features, columns) with one sequence per column, and one instruction computes several columns. The
// arithmetic of a column does not depend on the other columns or on their number. Columns are divided into blocks that
// fit into the cache. Each block runs through all steps, and blocks run in parallel on the given number of threads.

#include "columns.h"

namespace {

constexpr int64_t MAX_COLUMNS = 64;  // of a block

// As `_Sizes` of models/ops/gru_loop.py passes them. What is saved for backward is (chunks, rows, pitch): `chunk` steps
// per chunk, each of `columns()` columns.
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

struct Forward {
    Sizes sizes;
    const float *prepared, *gates, *state, *noise;  // (N, T, P), (N, T, 3 H), (N, L H), (N, T, Z) or null
    Weights weights;
    float *means, *deviations, *codes, *states, *saved;  // (N, T, Z) thrice, (N, T + 1, L H), saved or null
    int64_t block;
};

struct ForwardWeights {
    Packed state, output, latent;
    Array output_bias;
    std::vector<Packed> recurrent, below;
    std::vector<Array> recurrent_bias, below_bias;

    ForwardWeights(const Sizes& s, const Weights& w)
        : state(pack_rows(w.state, s.hidden, s.recurrent)),
          output(pack_rows(w.output, 2 * s.latent, s.hidden)),
          latent(pack_rows(w.latent, 3 * s.recurrent, s.latent)),
          output_bias(padded_copy(w.output_bias, 2 * s.latent)) {
        for (int64_t layer = 0; layer < s.layers; ++layer) {
            recurrent.push_back(pack_rows(w.recurrent(layer), 3 * s.recurrent, s.recurrent));
            recurrent_bias.push_back(padded_copy(w.recurrent_bias(layer), 3 * s.recurrent));
            if (layer) {
                below.push_back(pack_rows(w.below(layer), 3 * s.recurrent, s.recurrent));
                below_bias.push_back(padded_copy(w.below_bias(layer), 3 * s.recurrent));
            }
        }
    }
};

INLINE void save_states(const Sizes& s, const Saved& saved, const std::vector<Array>& states, int64_t columns, float* to) {
    for (int64_t layer = 0; layer < s.layers; ++layer) {
        float* const of_layer = to + (saved.first_layer + layer * saved.of_layer + saved.state) * s.pitch;
        for (int64_t row = 0; row < s.recurrent; ++row) {
            std::memcpy(of_layer + row * s.pitch, states[layer].get() + row * columns, columns * 4);
        }
    }
}

// All steps of the sequences first to first + count - 1.
void through_time(const Forward& run, const ForwardWeights& weights, int64_t first, int64_t count) {
    const Sizes& s = run.sizes;
    const Saved saved(s);
    const int64_t columns = padded(count, COLUMNS), pitch = s.pitch;
    const int64_t H = s.recurrent, Z = s.latent, P = s.hidden, gate = H * columns;
    Array hidden(padded(P, ROWS) * columns), raw(padded(2 * Z, ROWS) * columns), code(padded(Z, ROWS) * columns);
    Array noise(padded(Z, ROWS) * columns), of_input(padded(3 * H, ROWS) * columns), of_state(padded(3 * H, ROWS) * columns);
    std::vector<Array> states;
    const int64_t states_stride = (s.steps + 1) * s.layers * H;
    float* states_out = run.states + first * states_stride;
    for (int64_t layer = 0; layer < s.layers; ++layer) {
        states.emplace_back(padded(H, ROWS) * columns);
        read_columns(run.state + first * s.layers * H + layer * H, s.layers * H, count, H, columns, states[layer].get());
        write_columns(states[layer].get(), columns, count, H, states_stride, states_out + layer * H);
    }
    for (int64_t t = 0; t <= s.steps; ++t) {
        // the state after the last step of a chunk: the input of the layer above
        if (run.saved && s.layers > 1 && t && (t % s.chunk == 0 || t == s.steps)) {
            save_states(s, saved, states, columns, run.saved + s.place(t - 1, saved.rows, first) + s.columns());
        }
        if (t == s.steps) break;
        float* const save = run.saved ? run.saved + s.place(t, saved.rows, first) : nullptr;
        const int64_t ahead = t + 1 < s.steps ? s.place(t + 1, saved.rows, 0) - s.place(t, saved.rows, 0) : 0;
        if (save) save_states(s, saved, states, columns, save);

        // q(z_t | ...): the hidden layer, then the moments
        const int64_t step = first * s.steps + t;
        read_columns(run.prepared + step * P, s.steps * P, count, P, columns, hidden.get());
        multiply(weights.state, states.back().get(), columns, nullptr, hidden.get(), hidden.get());
        for (int64_t row = 0; row < P; ++row) {
            for (int64_t column = 0; column < columns; column += LANES) {
                const Float x = load(hidden.get() + row * columns + column), part = sigmoid(x);
                store(hidden.get() + row * columns + column, x * part);
                if (save) {
                    store(save + (saved.silu + row) * pitch + column, ahead, x * part);
                    store(save + (saved.derivative + row) * pitch + column, ahead, part * (1.0F + x * (1.0F - part)));
                }
            }
        }
        multiply(weights.output, hidden.get(), columns, weights.output_bias.get(), nullptr, raw.get());
        if (run.noise) read_columns(run.noise + step * Z, s.steps * Z, count, Z, columns, noise.get());
        for (int64_t row = 0; row < Z; ++row) {
            for (int64_t column = 0; column < columns; column += LANES) {
                float* const mean = raw.get() + row * columns + column;
                float* const deviation = mean + Z * columns;
                const Float unbounded = load(deviation), spread = softplus(unbounded) + FLOOR;
                store(deviation, spread);
                const Float draw = load(mean) + spread * load(noise.get() + row * columns + column);
                store(code.get() + row * columns + column, draw);
                if (save) {
                    store(save + (saved.code + row) * pitch + column, ahead, draw);
                    store(save + (saved.opening + row) * pitch + column, ahead, sigmoid(unbounded));
                }
            }
        }
        write_columns(raw.get(), columns, count, Z, s.steps * Z, run.means + step * Z);
        write_columns(raw.get() + Z * columns, columns, count, Z, s.steps * Z, run.deviations + step * Z);
        write_columns(code.get(), columns, count, Z, s.steps * Z, run.codes + step * Z);

        // h_t
        read_columns(run.gates + step * 3 * H, s.steps * 3 * H, count, 3 * H, columns, of_input.get());
        multiply(weights.latent, code.get(), columns, nullptr, of_input.get(), of_input.get());
        for (int64_t layer = 0; layer < s.layers; ++layer) {
            float* const state = states[layer].get();
            float* const save_layer = save ? save + (saved.first_layer + layer * saved.of_layer) * pitch : nullptr;
            if (layer) {
                multiply(weights.below[layer - 1], states[layer - 1].get(), columns,
                            weights.below_bias[layer - 1].get(), nullptr, of_input.get());
            }
            multiply(weights.recurrent[layer], state, columns, weights.recurrent_bias[layer].get(), nullptr,
                        of_state.get());
            for (int64_t row = 0; row < H; ++row) {
                for (int64_t column = 0; column < columns; column += LANES) {
                    const int64_t at = row * columns + column;
                    const Float reset = sigmoid(load(of_input.get() + at) + load(of_state.get() + at));
                    const Float update =
                        sigmoid(load(of_input.get() + gate + at) + load(of_state.get() + gate + at));
                    const Float own = load(of_state.get() + 2 * gate + at);
                    const Float candidate = hyperbolic_tangent(load(of_input.get() + 2 * gate + at) + reset * own);
                    store(state + at, candidate + update * (load(state + at) - candidate));
                    if (save_layer) {
                        store(save_layer + (saved.reset + row) * pitch + column, ahead, reset);
                        store(save_layer + (saved.update + row) * pitch + column, ahead, update);
                        store(save_layer + (saved.candidate + row) * pitch + column, ahead, candidate);
                        store(save_layer + (saved.recurrent + row) * pitch + column, ahead, own);
                    }
                }
            }
            write_columns(state, columns, count, H, states_stride, states_out + ((t + 1) * s.layers + layer) * H);
        }
    }
}

struct Backward {
    Sizes sizes;
    const float *noise, *deviations, *saved;  // as in the forward pass
    const float *of_means, *of_deviations, *of_codes, *of_states;  // gradients of the outputs, or null
    Weights weights;
    float *of_prepared, *of_gates, *of_state, *of_noise, *gradients;  // gradients of the inputs, of_noise or null; workspace
    int64_t block;
};

struct BackwardWeights {
    Packed state, output, latent;
    std::vector<Packed> recurrent, below;

    BackwardWeights(const Sizes& s, const Weights& w)
        : state(pack_columns(w.state, s.hidden, s.recurrent)),
          output(pack_columns(w.output, 2 * s.latent, s.hidden)),
          latent(pack_columns(w.latent, 3 * s.recurrent, s.latent)) {
        for (int64_t layer = 0; layer < s.layers; ++layer) {
            recurrent.push_back(pack_columns(w.recurrent(layer), 3 * s.recurrent, s.recurrent, s.recurrent));
            if (layer) below.push_back(pack_columns(w.below(layer), 3 * s.recurrent, s.recurrent));
        }
    }
};

void through_time(const Backward& run, const BackwardWeights& weights, int64_t first, int64_t count) {
    const Sizes& s = run.sizes;
    const Saved saved(s);
    const Gradients gradients(s);
    const int64_t columns = padded(count, COLUMNS), pitch = s.pitch;
    const int64_t H = s.recurrent, Z = s.latent, P = s.hidden, gate = H * columns;
    Array hidden(padded(P, ROWS) * columns), raw(padded(2 * Z, ROWS) * columns), code(padded(Z, ROWS) * columns);
    Array read(std::max(Z, H) * columns), noise(Z * columns), of_gates(4 * gate);
    std::vector<Array> states;  // d loss / d state of each layer
    for (int64_t layer = 0; layer < s.layers; ++layer) states.emplace_back(padded(H, ROWS) * columns);
    const int64_t states_stride = (s.steps + 1) * s.layers * H;

    for (int64_t t = s.steps; t >= 0; --t) {
        if (run.of_states) {
            for (int64_t layer = 0; layer < s.layers; ++layer) {
                read_columns(run.of_states + first * states_stride + (t * s.layers + layer) * H, states_stride, count, H,
                             columns, read.get());
                for (int64_t at = 0; at < gate; at += LANES) {
                    store(states[layer].get() + at, load(states[layer].get() + at) + load(read.get() + at));
                }
            }
        }
        if (t == 0) break;

        // `states` is now d loss / d state after step t - 1. Through the GRU, the top layer first.
        const int64_t step = first * s.steps + t - 1;
        const float* const save = run.saved + s.place(t - 1, saved.rows, first);
        float* const found = run.gradients + s.place(t - 1, gradients.rows, first);
        const int64_t ahead = t > 1 ? s.place(t - 2, saved.rows, 0) - s.place(t - 1, saved.rows, 0) : 0;
        const int64_t found_ahead = t > 1 ? s.place(t - 2, gradients.rows, 0) - s.place(t - 1, gradients.rows, 0) : 0;
        for (int64_t layer = s.layers - 1; layer >= 0; --layer) {
            float* const state = states[layer].get();
            const float* const of = save + (saved.first_layer + layer * saved.of_layer) * pitch;
            float* const to = found + (gradients.first_layer + layer * gradients.of_layer) * pitch;
            for (int64_t row = 0; row < H; ++row) {
                for (int64_t column = 0; column < columns; column += LANES) {
                    const int64_t at = row * columns + column;
                    const Float gradient = load(state + at);
                    const Float before = load(of + (saved.state + row) * pitch + column, ahead);
                    const Float reset = load(of + (saved.reset + row) * pitch + column, ahead);
                    const Float update = load(of + (saved.update + row) * pitch + column, ahead);
                    const Float candidate = load(of + (saved.candidate + row) * pitch + column, ahead);
                    const Float own = load(of + (saved.recurrent + row) * pitch + column, ahead);
                    const Float of_new = gradient * (1.0F - update) * (1.0F - candidate * candidate);
                    const Float of_own = of_new * reset;
                    const Float of_reset = of_own * own * (1.0F - reset);
                    const Float of_update = gradient * (before - candidate) * update * (1.0F - update);
                    store(state + at, gradient * update);
                    store(of_gates.get() + at, of_own);
                    store(of_gates.get() + gate + at, of_reset);
                    store(of_gates.get() + 2 * gate + at, of_update);
                    store(of_gates.get() + 3 * gate + at, of_new);
                    store(to + row * pitch + column, found_ahead, of_own);
                    store(to + (H + row) * pitch + column, found_ahead, of_reset);
                    store(to + (2 * H + row) * pitch + column, found_ahead, of_update);
                    store(to + (3 * H + row) * pitch + column, found_ahead, of_new);
                }
            }
            multiply(weights.recurrent[layer], of_gates.get(), columns, nullptr, state, state);
            if (layer) {
                float* const under = states[layer - 1].get();
                multiply(weights.below[layer - 1], of_gates.get() + gate, columns, nullptr, under, under);
            }
        }
        write_columns(of_gates.get() + gate, columns, count, 3 * H, s.steps * 3 * H, run.of_gates + step * 3 * H);
        multiply(weights.latent, of_gates.get() + gate, columns, nullptr, nullptr, code.get());

        // through the posterior
        if (run.of_codes) {
            read_columns(run.of_codes + step * Z, s.steps * Z, count, Z, columns, read.get());
            for (int64_t at = 0; at < Z * columns; at += LANES) {
                store(code.get() + at, load(code.get() + at) + load(read.get() + at));
            }
        }
        std::memset(raw.get(), 0, 2 * Z * columns * 4);
        if (run.of_means) read_columns(run.of_means + step * Z, s.steps * Z, count, Z, columns, raw.get());
        if (run.of_deviations) {
            read_columns(run.of_deviations + step * Z, s.steps * Z, count, Z, columns, raw.get() + Z * columns);
        }
        if (run.noise) read_columns(run.noise + step * Z, s.steps * Z, count, Z, columns, noise.get());
        if (run.of_noise) {
            read_columns(run.deviations + step * Z, s.steps * Z, count, Z, columns, read.get());
            for (int64_t at = 0; at < Z * columns; at += LANES) {
                store(read.get() + at, load(read.get() + at) * load(code.get() + at));
            }
            write_columns(read.get(), columns, count, Z, s.steps * Z, run.of_noise + step * Z);
        }
        for (int64_t row = 0; row < Z; ++row) {
            for (int64_t column = 0; column < columns; column += LANES) {
                float* const mean = raw.get() + row * columns + column;
                float* const deviation = mean + Z * columns;
                const Float gradient = load(code.get() + row * columns + column);
                const Float opening = load(save + (saved.opening + row) * pitch + column, ahead);
                const Float of_mean = load(mean) + gradient;
                const Float of_raw =
                    (load(deviation) + gradient * load(noise.get() + row * columns + column)) * opening;
                store(mean, of_mean);
                store(deviation, of_raw);
                store(found + (gradients.raw + row) * pitch + column, found_ahead, of_mean);
                store(found + (gradients.raw + Z + row) * pitch + column, found_ahead, of_raw);
            }
        }
        multiply(weights.output, raw.get(), columns, nullptr, nullptr, hidden.get());
        for (int64_t row = 0; row < P; ++row) {
            for (int64_t column = 0; column < columns; column += LANES) {
                float* const at = hidden.get() + row * columns + column;
                const Float gradient = load(at) * load(save + (saved.derivative + row) * pitch + column, ahead);
                store(at, gradient);
                store(found + (gradients.hidden + row) * pitch + column, found_ahead, gradient);
            }
        }
        write_columns(hidden.get(), columns, count, P, s.steps * P, run.of_prepared + step * P);
        multiply(weights.state, hidden.get(), columns, nullptr, states.back().get(), states.back().get());
    }
    for (int64_t layer = 0; layer < s.layers; ++layer) {
        write_columns(states[layer].get(), columns, count, H, s.layers * H, run.of_state + first * s.layers * H + layer * H);
    }
}

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

extern "C" {

// sizes: as `Sizes`. in: prepared, gates, state, noise. out: means, deviations, codes, states, saved. What the steps of
// the last chunk do not fill in `saved` has to be zeros.
void sensorium_gru_loop_forward(const int64_t* sizes, const float* const* in, const float* const* weights,
                                float* const* out) {
    const Sizes s = sizes_of(sizes);
    const Forward run{s,      in[0],  in[1],  in[2],  in[3],  Weights(weights, s.layers),
                      out[0], out[1], out[2], out[3], out[4], block_of(s)};
    over_blocks<ForwardWeights>(run);
}

// in: noise, deviations, saved, gradients of means, deviations, codes and states. out: gradients of prepared, gates,
// state and noise, and a workspace (chunks, rows of `Gradients`, pitch) with zeros as in `saved`.
void sensorium_gru_loop_backward(const int64_t* sizes, const float* const* in, const float* const* weights,
                                 float* const* out) {
    const Sizes s = sizes_of(sizes);
    const Backward run{s,     in[0],  in[1],  in[2],  in[3],  in[4],  in[5],      in[6], Weights(weights, s.layers),
                       out[0], out[1], out[2], out[3], out[4], block_of(s)};
    over_blocks<BackwardWeights>(run);
}
}
