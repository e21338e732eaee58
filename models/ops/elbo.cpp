// The terms of an MM-VAE's evidence bound and their gradients: what models/ops/elbo.py calls.
//
// B samples, Z latent features, M modalities of D values each; encoders and decoders are fully connected. A sample is a
// column, and a block of columns goes through the whole model at once: all of it stays in the cache.

#include <cmath>

#include "columns.h"

namespace {

constexpr int64_t BLOCK = 128;  // columns
constexpr float SPREAD_FLOOR = 1e-2F, NORMALISATION = 0.918938533F;  // models/likelihood/continuous.py

// log(x) for positive x, by the polynomial of Cephes; not a number stays that, and so does infinity.
INLINE Float logarithm(Float x) {
    Int bits;
    std::memcpy(&bits, &x, sizeof bits);
    Float power = __builtin_convertvector((bits >> 23) - 126, Float);
    const Int fraction = (bits & 0x7FFFFF) | 0x3F000000;
    Float rest;
    std::memcpy(&rest, &fraction, sizeof rest);
    const Int low = rest < all(0.707106781F);
    power -= low ? all(1.0F) : all(0.0F);
    rest = (low ? rest + rest : rest) - 1.0F;
    const Float square = rest * rest;
    Float sum = all(7.0376836292e-2F);
    sum = sum * rest - 1.1514610310e-1F;
    sum = sum * rest + 1.1676998740e-1F;
    sum = sum * rest - 1.2420140846e-1F;
    sum = sum * rest + 1.4249322787e-1F;
    sum = sum * rest - 1.6668057665e-1F;
    sum = sum * rest + 2.0000714765e-1F;
    sum = sum * rest - 2.4999993993e-1F;
    sum = sum * rest + 3.3333331174e-1F;
    Float found = sum * rest * square - power * 2.12194440e-4F - 0.5F * square;
    found = rest + found + power * 0.693359375F;
    return x <= all(3.4e38F) ? found : x;
}

INLINE float total(Float x) {
    typedef float Half __attribute__((vector_size(LANES * 2)));
    Half low, high;
    std::memcpy(&low, &x, sizeof low);
    std::memcpy(&high, reinterpret_cast<const char*>(&x) + sizeof low, sizeof high);
    low += high;
    float sum = 0;
    for (int lane = 0; lane < LANES / 2; ++lane) sum += low[lane];
    return sum;
}

// A fully connected network; widths are those of its input, its hidden layers and its output.
struct Network {
    int64_t activation, layers;
    const int64_t* widths;
    const float* const* weights;  // of every layer weight (out, in) and bias (out)
    int64_t first;  // the place of `weights` among those of the model

    // Rows that are kept: values and slopes of the hidden layers below this one, or of all of them.
    int64_t rows(int64_t layer) const {
        int64_t sum = 0;
        for (int64_t hidden = 1; hidden < layer; ++hidden) sum += 2 * widths[hidden];
        return sum;
    }
    int64_t rows() const { return rows(layers); }
    int64_t widest() const { return *std::max_element(widths, widths + layers + 1); }
};

struct Modality {
    int64_t features, scales;  // D, and how many of them have a scale of their own: D or 1
    bool predicted;  // the decoder gives the spread
    Network encoder, decoder;
    const float *values, *targets, *offset, *scale, *moment;  // (B, D) twice or null, (S) thrice
    const uint8_t *given, *wanted;  // (B) each

    int64_t of(int64_t feature) const { return scales == 1 ? 0 : feature; }
    int64_t parameters() const { return predicted ? 2 * features : features; }
    // What is kept of it: values, hidden layers, mean, precision, deviation and its slope; hidden layers, d log p / d raw.
    int64_t encoded_rows(int64_t latent) const { return features + encoder.rows() + 4 * latent; }
    int64_t rows(int64_t latent) const { return encoded_rows(latent) + decoder.rows() + parameters(); }
};

struct Model {
    int64_t samples, latent;
    std::vector<Modality> modalities;
    const float* noise;  // (B, Z) or null

    // plan: Z, M, of every modality D, S, predicted, and of encoder and decoder activation, layers and layers + 1 widths.
    // in: noise, of every modality values, given, targets, wanted, offset, scale, moment, then all weights.
    Model(int64_t samples, const int64_t* plan, const void* const* in)
        : samples(samples), latent(plan[0]), modalities(plan[1]), noise(in ? static_cast<const float*>(in[0]) : nullptr) {
        const int64_t* next = plan + 2;
        const int64_t count = plan[1];
        const float* const* weights = in ? reinterpret_cast<const float* const*>(in + 1 + 7 * count) : nullptr;
        int64_t place = 0;
        for (int64_t index = 0; index < count; ++index) {
            Modality& m = modalities[index];
            m.features = next[0], m.scales = next[1], m.predicted = next[2];
            next += 3;
            for (Network* network : {&m.encoder, &m.decoder}) {
                *network = {next[0], next[1], next + 2, weights ? weights + place : nullptr, place};
                place += 2 * network->layers;
                next += network->layers + 3;
            }
            if (!in) continue;
            const void* const* arrays = in + 1 + 7 * index;
            m.values = static_cast<const float*>(arrays[0]), m.given = static_cast<const uint8_t*>(arrays[1]);
            m.targets = static_cast<const float*>(arrays[2]), m.wanted = static_cast<const uint8_t*>(arrays[3]);
            m.offset = static_cast<const float*>(arrays[4]), m.scale = static_cast<const float*>(arrays[5]);
            m.moment = static_cast<const float*>(arrays[6]);
        }
    }
    // Of all modalities, and mean, deviation, noise and code of the joint posterior.
    int64_t rows() const {
        int64_t sum = 4 * latent;
        for (const Modality& m : modalities) sum += m.rows(latent);
        return sum;
    }
    int64_t widest() const {
        int64_t width = 2 * latent;
        for (const Modality& m : modalities) width = std::max({width, m.encoder.widest(), m.decoder.widest()});
        return padded(width, ROWS);
    }
};

// Columns of a block, zeros behind the last sample.
void read(const float* from, int64_t features, int64_t count, int64_t columns, float* to) {
    for (int64_t row = 0; row < features; ++row) std::memset(to + row * columns + count, 0, (columns - count) * 4);
    read_columns(from, features, count, features, columns, to);
}

void read_mask(const uint8_t* from, int64_t count, int64_t columns, float* to) {
    for (int64_t column = 0; column < columns; ++column) to[column] = column < count && from[column] ? 1.0F : 0.0F;
}

// Standardised values, zeros where they are absent.
void read_values(const Modality& m, const float* from, const float* mask, int64_t count, int64_t columns, float* to) {
    read(from, m.features, count, columns, to);
    for (int64_t row = 0; row < m.features; ++row) {
        const Float offset = all(m.offset[m.of(row)]), scale = all(m.scale[m.of(row)]);
        for (int64_t column = 0; column < columns; column += LANES) {
            float* const at = to + row * columns + column;
            store(at, load(mask + column) > 0.0F ? (load(at) - offset) / scale : all(0.0F));
        }
    }
}

void activate(int64_t activation, const float* in, int64_t size, float* value, float* slope) {
    for (int64_t at = 0; at < size; at += LANES) {
        const Float x = load(in + at);
        if (activation == SILU) {
            const Float opening = sigmoid(x);
            store(value + at, x * opening);
            store(slope + at, opening * (1.0F + x * (1.0F - opening)));
        } else if (activation == RELU) {
            store(value + at, x < 0.0F ? all(0.0F) : x);
            store(slope + at, x > 0.0F ? all(1.0F) : all(0.0F));
        } else {
            const Float y = hyperbolic_tangent(x);
            store(value + at, y);
            store(slope + at, 1.0F - y * y);
        }
    }
}

// A network's weights as products read them, for the way forward or the way back.
struct Layers {
    std::vector<Packed> weights;
    std::vector<Array> biases;

    Layers(const Network& network, bool back) {
        for (int64_t layer = 0; layer < network.layers; ++layer) {
            const int64_t in = network.widths[layer], out = network.widths[layer + 1];
            const float* const weight = network.weights[2 * layer];
            weights.push_back(back ? pack_columns(weight, out, in) : pack_rows(weight, out, in));
            if (!back) biases.push_back(padded_copy(network.weights[2 * layer + 1], out));
        }
    }
};

struct Halves {
    Layers encoder, decoder;

    Halves(const Modality& m, bool back) : encoder(m.encoder, back), decoder(m.decoder, back) {}
};

std::vector<Halves> halves(const Model& model, bool back) {
    std::vector<Halves> found;
    for (const Modality& m : model.modalities) found.emplace_back(m, back);
    return found;
}

// The output to `out`, of every hidden layer values and slopes to `kept`.
void through(const Network& network, const Layers& layers, const float* in, int64_t columns, float* kept, float* out) {
    for (int64_t layer = 0; layer < network.layers; ++layer) {
        multiply(layers.weights[layer], in, columns, layers.biases[layer].get(), nullptr, out);
        if (layer + 1 == network.layers) return;
        const int64_t size = network.widths[layer + 1] * columns;
        activate(network.activation, out, size, kept, kept + size);
        in = kept;
        kept += 2 * size;
    }
}

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

// From d loss / d output in `slope` to the weights' gradients, which are added to, and to d loss / d input, if it is
// wanted. Both arrays are written to; the one that is returned has the result.
float* back(const Network& network, const Layers& layers, const float* in, const float* kept, int64_t columns,
            float* slope, float* other, float* const* gradients, bool wanted) {
    for (int64_t layer = network.layers - 1; layer >= 0; --layer) {
        const int64_t width = network.widths[layer], above = network.widths[layer + 1];
        const float* const values = layer ? kept + network.rows(layer) * columns : in;
        float *const weight = gradients[network.first + 2 * layer], *const bias = gradients[network.first + 2 * layer + 1];
        if (weight) add_product(slope, above, values, width, columns, weight);
        if (bias) add_sums(slope, above, columns, bias);
        if (!layer && !wanted) return nullptr;
        multiply(layers.weights[layer], slope, columns, nullptr, nullptr, other);
        if (layer) {
            const float* const slopes = values + width * columns;
            for (int64_t at = 0; at < width * columns; at += LANES) store(other + at, load(other + at) * load(slopes + at));
        }
        std::swap(slope, other);
    }
    return slope;
}

struct Outputs {
    float *kl, *kept;  // (B, Z); what is kept, blocks behind one another, or null
    float* const* of_modalities;  // log-likelihood (B), errors (1 + S) or null
};

// log p of the targets, its gradient with respect to the decoder's output `raw`, and the errors.
void density(const Modality& m, const float* raw, const float* target, const float* mask, int64_t columns, float* sum,
             float* slopes, float* errors) {
    float constant = 0;
    std::memset(sum, 0, columns * 4);
    for (int64_t row = 0; row < m.features; ++row) {
        const int64_t scale = m.of(row);
        constant += std::log(m.scale[scale]) + NORMALISATION;
        const float common = std::sqrt(m.moment[scale]);
        if (!m.predicted) constant += std::log(common);
        Float error = all(0.0F);
        for (int64_t column = 0; column < columns; column += LANES) {
            const int64_t at = row * columns + column;
            const auto present = load(mask + column) > 0.0F;
            const Float misfit = load(target + at) - load(raw + at);
            Float spread = all(common), density = all(0.0F);
            if (m.predicted) {
                const Float unbounded = load(raw + m.features * columns + at);
                spread = softplus(unbounded) + SPREAD_FLOOR;
                density = -logarithm(spread);
                const Float ratio = misfit / spread;
                const Float slope = (ratio * ratio - 1.0F) / spread * sigmoid(unbounded);
                store(slopes + m.features * columns + at, present ? slope : all(0.0F));
            }
            const Float ratio = misfit / spread;
            density -= 0.5F * ratio * ratio;
            store(slopes + at, present ? ratio / spread : all(0.0F));
            store(sum + column, load(sum + column) + density);
            error += present ? misfit * misfit : all(0.0F);
        }
        if (errors) errors[1 + scale] += total(error) * (m.scales == 1 ? 1.0F / static_cast<float>(m.features) : 1.0F);
    }
    if (errors) {
        for (int64_t column = 0; column < columns; ++column) errors[0] += mask[column];
    }
    for (int64_t column = 0; column < columns; column += LANES) {
        store(sum + column, load(mask + column) > 0.0F ? load(sum + column) - constant : all(0.0F));
    }
}

struct Scratch {
    Array one, other, target, mask, row;

    Scratch(const Model& model, int64_t columns)
        : one(model.widest() * columns), other(model.widest() * columns), target(model.widest() * columns),
          mask(columns), row(columns) {}
};

void forward(const Model& model, const std::vector<Halves>& weights, const Scratch& scratch, int64_t first, int64_t count,
             float* kept, const Outputs& out) {
    const int64_t Z = model.latent, columns = padded(count, COLUMNS), size = Z * columns;
    float *const mean = kept, *const deviation = mean + size, *const noise = deviation + size, *const code = noise + size;
    for (int64_t at = 0; at < size; at += LANES) store(mean + at, all(0.0F)), store(deviation + at, all(1.0F));
    float* next = kept + 4 * size;
    for (size_t index = 0; index < model.modalities.size(); ++index) {  // sums of precisions, and of means times these
        const Modality& m = model.modalities[index];
        float* const hidden = next + m.features * columns;
        float* const own = hidden + m.encoder.rows() * columns;
        if (m.values) {
            read_mask(m.given + first, count, columns, scratch.mask.get());
            read_values(m, m.values + first * m.features, scratch.mask.get(), count, columns, next);
            through(m.encoder, weights[index].encoder, next, columns, hidden, scratch.one.get());
            for (int64_t at = 0; at < size; at += LANES) {
                const auto present = load(scratch.mask.get() + at % columns) > 0.0F;
                const Float unbounded = load(scratch.one.get() + size + at), centre = load(scratch.one.get() + at);
                const Float spread = softplus(unbounded) + FLOOR;
                const Float precision = present ? 1.0F / (spread * spread) : all(0.0F);
                store(own + at, centre);
                store(own + size + at, precision);
                store(own + 2 * size + at, spread);
                store(own + 3 * size + at, sigmoid(unbounded));
                store(mean + at, load(mean + at) + (present ? centre * precision : all(0.0F)));
                store(deviation + at, load(deviation + at) + precision);
            }
        }
        next += m.rows(Z) * columns;
    }
    if (model.noise) read(model.noise + first * Z, Z, count, columns, noise);
    for (int64_t at = 0; at < size; at += LANES) {
        const Float precision = load(deviation + at), centre = load(mean + at) / precision;
        const Float spread = 1.0F / square_root(precision);
        store(mean + at, centre);
        store(deviation + at, spread);
        if (!model.noise) store(noise + at, all(0.0F));
        store(code + at, centre + spread * load(noise + at));
        const Float variance = spread * spread;
        store(scratch.one.get() + at, 0.5F * (variance + centre * centre - 1.0F - logarithm(variance)));
    }
    write_columns(scratch.one.get(), columns, count, Z, Z, out.kl + first * Z);

    next = kept + 4 * size;
    for (size_t index = 0; index < model.modalities.size(); ++index) {
        const Modality& m = model.modalities[index];
        float* const hidden = next + m.encoded_rows(Z) * columns;
        next += m.rows(Z) * columns;
        if (!m.targets) continue;
        read_mask(m.wanted + first, count, columns, scratch.mask.get());
        read_values(m, m.targets + first * m.features, scratch.mask.get(), count, columns, scratch.target.get());
        through(m.decoder, weights[index].decoder, code, columns, hidden, scratch.one.get());
        density(m, scratch.one.get(), scratch.target.get(), scratch.mask.get(), columns, scratch.row.get(),
                hidden + m.decoder.rows() * columns, out.of_modalities[2 * index + 1]);
        std::memcpy(out.of_modalities[2 * index] + first, scratch.row.get(), count * 4);
    }
}

struct Slopes {
    const float* of_kl;  // d loss / d kl (B, Z), or null
    const float* const* of_modalities;  // d loss / d log-likelihood (B), or null
};

void backward(const Model& model, const std::vector<Halves>& weights, const Scratch& scratch, int64_t first, int64_t count,
              const float* kept, const Slopes& slopes, float* const* gradients) {
    const int64_t Z = model.latent, columns = padded(count, COLUMNS), size = Z * columns;
    const float *const mean = kept, *const deviation = mean + size, *const noise = deviation + size, *const code = noise + size;
    float *const of_mean = scratch.target.get(), *const of_precision = of_mean + size;  // of the joint posterior
    float* const of_row = scratch.row.get();
    std::memset(of_mean, 0, size * 4);  // of the code, to begin with
    const float* next = kept + 4 * size;
    for (size_t index = 0; index < model.modalities.size(); ++index) {
        const Modality& m = model.modalities[index];
        const float* const hidden = next + m.encoded_rows(Z) * columns;
        next += m.rows(Z) * columns;
        if (!m.targets || !slopes.of_modalities[index]) continue;
        std::memset(of_row, 0, columns * 4);
        std::memcpy(of_row, slopes.of_modalities[index] + first, count * 4);
        const float* const of_raw = hidden + m.decoder.rows() * columns;
        for (int64_t at = 0; at < m.parameters() * columns; at += LANES) {
            store(scratch.one.get() + at, load(of_raw + at) * load(of_row + at % columns));
        }
        const float* const found = back(m.decoder, weights[index].decoder, code, hidden, columns, scratch.one.get(),
                                        scratch.other.get(), gradients, true);
        for (int64_t at = 0; at < size; at += LANES) store(of_mean + at, load(of_mean + at) + load(found + at));
    }
    float* const of_kl = scratch.one.get();
    if (slopes.of_kl) read(slopes.of_kl + first * Z, Z, count, columns, of_kl);
    else std::memset(of_kl, 0, size * 4);
    for (int64_t at = 0; at < size; at += LANES) {
        const Float spread = load(deviation + at), centre = load(mean + at), of_code = load(of_mean + at);
        const Float variance = spread * spread, weight = load(of_kl + at);
        const Float of_centre = of_code + weight * centre;
        const Float of_spread = of_code * load(noise + at) + weight * (spread - 1.0F / spread);
        store(of_mean + at, of_centre * variance);
        store(of_precision + at, -variance * (0.5F * spread * of_spread + of_centre * centre));
    }
    next = kept + 4 * size;
    for (size_t index = 0; index < model.modalities.size(); ++index) {
        const Modality& m = model.modalities[index];
        const float *const in = next, *const hidden = in + m.features * columns;
        const float* const own = hidden + m.encoder.rows() * columns;
        next += m.rows(Z) * columns;
        if (!m.values) continue;
        for (int64_t at = 0; at < size; at += LANES) {
            const Float precision = load(own + size + at);
            const Float of_own = load(of_precision + at) + load(of_mean + at) * load(own + at);
            store(scratch.one.get() + at, load(of_mean + at) * precision);
            store(scratch.one.get() + size + at, -2.0F * precision / load(own + 2 * size + at) * of_own * load(own + 3 * size + at));
        }
        back(m.encoder, weights[index].encoder, in, hidden, columns, scratch.one.get(), scratch.other.get(), gradients, false);
    }
}

}  // namespace

extern "C" {

// How many numbers of a sample the way forward keeps for the way back; samples are padded to a multiple of COLUMNS.
void sensorium_bound_rows(const int64_t* plan, int64_t* rows) { *rows = Model(0, plan, nullptr).rows(); }

// out: kl, what is kept or null, then of every modality log-likelihood (not read without targets) and errors or null.
void sensorium_bound_forward(int64_t samples, const int64_t* plan, const void* const* in, float* const* out) {
    const Model model(samples, plan, in);
    const Outputs outputs{out[0], out[1], out + 2};
    for (size_t index = 0; index < model.modalities.size(); ++index) {
        float* const errors = outputs.of_modalities[2 * index + 1];
        if (errors) std::memset(errors, 0, (1 + model.modalities[index].scales) * 4);
    }
    const std::vector<Halves> weights = halves(model, false);
    const int64_t widest = std::min(padded(samples, COLUMNS), BLOCK), rows = model.rows();
    const Scratch scratch(model, widest);
    const Array unkept(outputs.kept ? 0 : rows * widest);
    for (int64_t first = 0; first < samples; first += BLOCK) {
        float* const kept = outputs.kept ? outputs.kept + first * rows : unkept.get();
        forward(model, weights, scratch, first, std::min(BLOCK, samples - first), kept, outputs);
    }
}

// slopes: d loss / d kl, then of every modality d loss / d log-likelihood, or null each. gradients: of all weights in the
// order of `in`, or null.
void sensorium_bound_backward(int64_t samples, const int64_t* plan, const void* const* in, const float* kept,
                              const float* const* slopes, float* const* gradients) {
    const Model model(samples, plan, in);
    for (const Modality& m : model.modalities) {
        for (const Network* network : {&m.encoder, &m.decoder}) {
            for (int64_t layer = 0; layer < network->layers; ++layer) {
                float* const* const own = gradients + network->first + 2 * layer;
                const int64_t in = network->widths[layer], out = network->widths[layer + 1];
                if (own[0]) std::memset(own[0], 0, in * out * 4);
                if (own[1]) std::memset(own[1], 0, out * 4);
            }
        }
    }
    const std::vector<Halves> weights = halves(model, true);
    const Scratch scratch(model, std::min(padded(samples, COLUMNS), BLOCK));
    for (int64_t first = 0; first < samples; first += BLOCK) {
        backward(model, weights, scratch, first, std::min(BLOCK, samples - first), kept + first * model.rows(),
                 {slopes[0], slopes + 1}, gradients);
    }
}
}
