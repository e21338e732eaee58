// The loop over time of an MM-VRNN with a GRU, backward pass: the kernel of models/ops/gru_loop.py.

#include "gru_loop.h"

namespace {

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

}  // namespace

extern "C" {

// sizes: as `Sizes`. in: noise, deviations, saved, gradients of means, deviations, codes and states. out: gradients of prepared, gates,
// state and noise, and a workspace (chunks, rows of `Gradients`, pitch) with zeros as in `saved`.
void sensorium_gru_loop_backward(const int64_t* sizes, const float* const* in, const float* const* weights,
                                 float* const* out) {
    const Sizes s = sizes_of(sizes);
    const Backward run{s,     in[0],  in[1],  in[2],  in[3],  in[4],  in[5],      in[6], Weights(weights, s.layers),
                       out[0], out[1], out[2], out[3], out[4], block_of(s)};
    over_blocks<BackwardWeights>(run);
}
}
