// The loop over time of an MM-VRNN with a GRU, forward pass: the kernel of models/ops/gru_loop.py.

#include "gru_loop.h"

namespace {

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
}
