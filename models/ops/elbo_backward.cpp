// The gradient of the evidence lower bound of an MM-VAE: the CPU kernel of models/ops/elbo.py.

#include "elbo.h"

namespace {

template <int Height, int Width>
INLINE void add_tile(const float* left, const float* right, int64_t columns, int64_t stride, float* to) {
    Float sum[Height][Width] = {};
    for (int64_t column = 0; column < columns; column += LANES) {
        Float value[Width];
#pragma GCC unroll 4
        for (int x = 0; x < Width; ++x) value[x] = load(right + x * columns + column);
#pragma GCC unroll 4
        for (int y = 0; y < Height; ++y) {
            const Float one = load(left + y * columns + column);
#pragma GCC unroll 4
            for (int x = 0; x < Width; ++x) sum[y][x] += one * value[x];
        }
    }
#pragma GCC unroll 4
    for (int y = 0; y < Height; ++y) {
#pragma GCC unroll 4
        for (int x = 0; x < Width; ++x) to[y * stride + x] += total(sum[y][x]);
    }
}

// to += left right^T: (height, columns), (width, columns) -> (height, width).
void add_product(const float* left, int64_t height, const float* right, int64_t width, int64_t columns, float* to) {
    constexpr int SIDE = 3;  // nine sums and four operands fit into 16 registers
    for (int64_t y = 0; y < height;) {
        const bool tall = y + SIDE <= height;
        for (int64_t x = 0; x < width;) {
            const bool wide = x + SIDE <= width;
            const float *const a = left + y * columns, *const b = right + x * columns;
            float* const out = to + y * width + x;
            if (tall && wide) add_tile<SIDE, SIDE>(a, b, columns, width, out);
            else if (tall) add_tile<SIDE, 1>(a, b, columns, width, out);
            else if (wide) add_tile<1, SIDE>(a, b, columns, width, out);
            else add_tile<1, 1>(a, b, columns, width, out);
            x += wide ? SIDE : 1;
        }
        y += tall ? SIDE : 1;
    }
}

void add_sums(const float* of, int64_t rows, int64_t columns, float* to) {
    for (int64_t row = 0; row < rows; ++row) {
        Float sum = all(0.0F);
        for (int64_t column = 0; column < columns; column += LANES) sum += load(of + row * columns + column);
        to[row] += total(sum);
    }
}

// From d loss / d output in `slope` to the gradients of the weights, which are added to `gradient`, and to
// d loss / d input, if it is wanted. Both arrays are overwritten; the returned one holds the result.
float* back(const Network& network, const Layers& layers, const float* in, const float* kept, int64_t columns,
            float* slope, float* other, float* gradient, bool wanted) {
    for (int64_t layer = network.layers - 1; layer >= 0; --layer) {
        const int64_t width = network.widths[layer], above = network.widths[layer + 1];
        const float* const values = layer ? kept + network.rows(layer) * columns : in;
        add_product(slope, above, values, width, columns, gradient + network.places[2 * layer]);
        add_sums(slope, above, columns, gradient + network.places[2 * layer + 1]);
        if (!layer && !wanted) return nullptr;
        multiply(layers.weights[layer], slope, columns, nullptr, nullptr, other);
        if (layer) {
            const float* const derivatives = values + width * columns;
            for (int64_t at = 0; at < width * columns; at += LANES) {
                store(other + at, load(other + at) * load(derivatives + at));
            }
        }
        std::swap(slope, other);
    }
    return slope;
}

// of_loss: d sum / d loss, (B). gradient: of the parameters, is added to.
void backward(const Model& model, const std::vector<Halves>& weights, const Scratch& scratch, int64_t first, int64_t count,
              const float* kept, const float* of_loss, float* gradient) {
    const int64_t Z = model.latent, columns = padded(count, COLUMNS), size = Z * columns;
    const float *const mean = kept, *const deviation = mean + size, *const noise = deviation + size, *const code = noise + size;
    float *const of_mean = scratch.target.get(), *const of_precision = of_mean + size;  // of the joint posterior
    float* const slope = scratch.row.get();
    std::memset(slope, 0, columns * 4);
    std::memcpy(slope, of_loss + first, count * 4);
    std::memset(of_mean, 0, size * 4);  // of the code, to begin with
    const float* next = kept + 4 * size;
    for (size_t index = 0; index < model.modalities.size(); ++index) {
        const Modality& m = model.modalities[index];
        const float* const hidden = next + m.encoded_rows(Z) * columns;
        next += m.rows(Z) * columns;
        if (!m.targets) continue;
        const float* const of_raw = hidden + m.decoder.rows() * columns;
        for (int64_t row = 0; row < m.parameters(); ++row) {
            for (int64_t column = 0; column < columns; column += LANES) {
                const int64_t at = row * columns + column;
                store(scratch.one.get() + at, -model.weights[index] * load(of_raw + at) * load(slope + column));
            }
        }
        const float* const found = back(m.decoder, weights[index].decoder, code, hidden, columns, scratch.one.get(),
                                        scratch.other.get(), gradient, true);
        for (int64_t at = 0; at < size; at += LANES) store(of_mean + at, load(of_mean + at) + load(found + at));
    }
    for (int64_t row = 0; row < Z; ++row) {
        for (int64_t column = 0; column < columns; column += LANES) {
            const int64_t at = row * columns + column;
            const Float spread = load(deviation + at), centre = load(mean + at), of_code = load(of_mean + at);
            Float weight = model.beta * load(slope + column);
            if (model.free_bits > 0) {
                weight = kl_from_standard(centre, spread) < model.free_bits ? all(0.0F) : weight;
            }
            const Float variance = spread * spread;
            const Float of_centre = of_code + weight * centre;
            const Float of_spread = of_code * load(noise + at) + weight * (spread - 1.0F / spread);
            store(of_mean + at, of_centre * variance);
            store(of_precision + at, -variance * (0.5F * spread * of_spread + of_centre * centre));
        }
    }
    next = kept + 4 * size;
    for (size_t index = 0; index < model.modalities.size(); ++index) {
        const Modality& m = model.modalities[index];
        const float *const in = next, *const hidden = in + m.features() * columns;
        const float* const own = hidden + m.encoder.rows() * columns;
        next += m.rows(Z) * columns;
        if (!m.values) continue;
        for (int64_t at = 0; at < size; at += LANES) {
            const Float precision = load(own + size + at);
            const Float of_own = load(of_precision + at) + load(of_mean + at) * load(own + at);
            store(scratch.one.get() + at, load(of_mean + at) * precision);
            store(scratch.one.get() + size + at,
                  -2.0F * precision / load(own + 2 * size + at) * of_own * load(own + 3 * size + at));
        }
        back(m.encoder, weights[index].encoder, in, hidden, columns, scratch.one.get(), scratch.other.get(), gradient,
             false);
    }
}

}  // namespace

extern "C" {

// of_loss: d sum / d loss, (B). gradient: zeros in the shape of the parameters.
void sensorium_elbo_backward(int64_t samples, const int64_t* plan, const void* const* in, const float* scalars,
                             const float* workspace, const float* of_loss, float* gradient) {
    const Model model(samples, plan, in, scalars);
    const std::vector<Halves> weights = halves(model, true);
    const Scratch scratch(model, std::min(padded(samples, COLUMNS), BLOCK));
    for (int64_t first = 0; first < samples; first += BLOCK) {
        backward(model, weights, scratch, first, std::min(BLOCK, samples - first), workspace + first * model.rows(),
                 of_loss, gradient);
    }
}
}
