// The evidence lower bound of an MM-VAE and its gradient: the CPU kernel of models/ops/elbo.py.
//
// B samples, Z latent features, M modalities of D values each; encoders and decoders are fully connected, likelihoods are
// Gaussian, the expert is the product. All weights are parts of one vector of parameters.

#include "dense.h"

namespace {

constexpr float SPREAD_FLOOR = 1e-2F, NORMALISATION = 0.918938533F;  // models/likelihoods/continuous.py

// log(x) for positive x, by the polynomial of Cephes; NaN and infinity propagate.
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

// KL(N(mean, spread^2) || N(0, 1)) in nats.
INLINE Float kl_from_standard(Float mean, Float spread) {
    const Float variance = spread * spread;
    return 0.5F * (variance + mean * mean - 1.0F - logarithm(variance));
}

// A fully connected network.
struct Network {
    int64_t activation, layers;
    const int64_t* widths;  // of the input, the hidden layers and the output
    const int64_t* places;  // of every layer's weight (out, in) and bias (out) in the vector of parameters

    // Rows of the workspace: values and derivatives of the hidden layers below this one, or of all of them.
    int64_t rows(int64_t layer) const {
        int64_t sum = 0;
        for (int64_t hidden = 1; hidden < layer; ++hidden) sum += 2 * widths[hidden];
        return sum;
    }
    int64_t rows() const { return rows(layers); }
    int64_t widest() const { return *std::max_element(widths, widths + layers + 1); }
};

struct Modality {
    Standardisation standardisation;
    bool predicted, learned;  // the decoder gives the spread; the errors that the spread adapts to are wanted
    Network encoder, decoder;
    const float *values, *targets, *moment;  // (B, D) twice or null; (S) the mean squared error
    const uint8_t *given, *wanted;  // (B) each

    int64_t features() const { return standardisation.features; }
    int64_t parameters() const { return predicted ? 2 * features() : features(); }
    // Rows of the workspace: values, hidden layers, mean, precision, spread and its derivative; hidden layers of the
    // decoder, d log p / d raw.
    int64_t encoded_rows(int64_t latent) const { return features() + encoder.rows() + 4 * latent; }
    int64_t rows(int64_t latent) const { return encoded_rows(latent) + decoder.rows() + parameters(); }
};

struct Model {
    int64_t samples, latent;
    std::vector<Modality> modalities;
    const float *parameters, *noise;  // noise: (B, Z), or null for the posterior mean
    float beta, free_bits;
    const float* weights;  // (M) of the log-likelihoods

    // plan: Z, M, of every modality D, S, predicted, learned, and of encoder and decoder activation, layers, layers + 1
    // widths and 2 layers places. in: parameters, noise, of every modality values, given, targets, wanted, offset, scale,
    // moment. scalars: beta, free bits, weights.
    Model(int64_t samples, const int64_t* plan, const void* const* in, const float* scalars)
        : samples(samples), latent(plan[0]), modalities(plan[1]), parameters(nullptr), noise(nullptr), beta(0),
          free_bits(0), weights(nullptr) {
        const int64_t* next = plan + 2;
        for (Modality& m : modalities) {
            m.standardisation = {next[0], next[1], false, nullptr, nullptr};
            m.predicted = next[2], m.learned = next[3];
            next += 4;
            for (Network* network : {&m.encoder, &m.decoder}) {
                const int64_t layers = next[1];
                *network = {next[0], layers, next + 2, next + 3 + layers};
                next += 3 + 3 * layers;
            }
        }
        if (!in) return;
        parameters = static_cast<const float*>(in[0]), noise = static_cast<const float*>(in[1]);
        beta = scalars[0], free_bits = scalars[1], weights = scalars + 2;
        in += 2;
        for (Modality& m : modalities) {
            m.values = static_cast<const float*>(in[0]), m.given = static_cast<const uint8_t*>(in[1]);
            m.targets = static_cast<const float*>(in[2]), m.wanted = static_cast<const uint8_t*>(in[3]);
            m.standardisation.offset = static_cast<const float*>(in[4]);
            m.standardisation.scale = static_cast<const float*>(in[5]);
            m.moment = static_cast<const float*>(in[6]);
            in += 7;
        }
    }
    // Rows of the workspace: those of all modalities, and mean, deviation, noise and code of the joint posterior.
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

// A network's weights as products read them, for the forward or the backward pass.
struct Layers {
    std::vector<Packed> weights;
    std::vector<Array> biases;

    Layers(const Network& network, const float* parameters, bool back) {
        for (int64_t layer = 0; layer < network.layers; ++layer) {
            const int64_t in = network.widths[layer], out = network.widths[layer + 1];
            const float* const weight = parameters + network.places[2 * layer];
            weights.push_back(back ? pack_columns(weight, out, in) : pack_rows(weight, out, in));
            if (!back) biases.push_back(padded_copy(parameters + network.places[2 * layer + 1], out));
        }
    }
};

struct Halves {
    Layers encoder, decoder;

    Halves(const Modality& m, const float* parameters, bool back)
        : encoder(m.encoder, parameters, back), decoder(m.decoder, parameters, back) {}
};

std::vector<Halves> halves(const Model& model, bool back) {
    std::vector<Halves> found;
    for (const Modality& m : model.modalities) found.emplace_back(m, model.parameters, back);
    return found;
}

// The output goes to `out`, values and derivatives of every hidden layer to `kept`.
void through(const Network& network, const Layers& layers, const float* in, int64_t columns, float* kept, float* out) {
    for (int64_t layer = 0; layer < network.layers; ++layer) {
        multiply(layers.weights[layer], in, columns, layers.biases[layer].get(), nullptr, out);
        if (layer + 1 == network.layers) return;
        const int64_t size = network.widths[layer + 1] * columns;
        for (int64_t at = 0; at < size; at += LANES) {
            Float derivative;
            store(kept + at, activated(network.activation, load(out + at), &derivative));
            store(kept + size + at, derivative);
        }
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

// log p of the targets, its gradient with respect to the decoder's output `raw`, and the errors or null.
void density(const Modality& m, const float* raw, const float* target, const float* mask, int64_t columns, float* sum,
             float* slopes, float* errors) {
    const Standardisation& s = m.standardisation;
    float constant = 0;
    std::memset(sum, 0, columns * 4);
    for (int64_t row = 0; row < s.features; ++row) {
        const int64_t scale = s.of(row);
        constant += std::log(s.scale[scale]) + NORMALISATION;
        const float common = std::sqrt(m.moment[scale]);
        if (!m.predicted) constant += std::log(common);
        Float error = all(0.0F);
        for (int64_t column = 0; column < columns; column += LANES) {
            const int64_t at = row * columns + column;
            const auto present = load(mask + column) > 0.0F;
            const Float misfit = load(target + at) - load(raw + at);
            Float spread = all(common), density = all(0.0F);
            if (m.predicted) {
                const Float unbounded = load(raw + s.features * columns + at);
                spread = softplus(unbounded) + SPREAD_FLOOR;
                density = -logarithm(spread);
                const Float ratio = misfit / spread;
                const Float slope = (ratio * ratio - 1.0F) / spread * sigmoid(unbounded);
                store(slopes + s.features * columns + at, present ? slope : all(0.0F));
            }
            const Float ratio = misfit / spread;
            density -= 0.5F * ratio * ratio;
            store(slopes + at, present ? ratio / spread : all(0.0F));
            store(sum + column, load(sum + column) + density);
            error += present ? misfit * misfit : all(0.0F);
        }
        if (errors) errors[1 + scale] += total(error) * (s.scales == 1 ? 1.0F / static_cast<float>(s.features) : 1.0F);
    }
    if (errors) {
        for (int64_t column = 0; column < columns; ++column) errors[0] += mask[column];
    }
    for (int64_t column = 0; column < columns; column += LANES) {
        store(sum + column, load(mask + column) > 0.0F ? load(sum + column) - constant : all(0.0F));
    }
}

struct Scratch {
    Array one, other, target, mask, row, loss;

    Scratch(const Model& model, int64_t columns)
        : one(model.widest() * columns), other(model.widest() * columns), target(model.widest() * columns),
          mask(columns), row(columns), loss(columns) {}
};

struct Outputs {
    float *loss, *kl, *kl_of_features;  // (B), (B), (B, Z)
    float* log_likelihood;  // (B) of every modality with targets
    float* errors;  // 1 + S of every modality with targets that learns its spread: their number, sums of squared errors
    float* workspace;  // (rows, columns) of every block, or null
};

void forward(const Model& model, const std::vector<Halves>& weights, const Scratch& scratch, int64_t first, int64_t count,
             float* kept, const Outputs& out) {
    const int64_t Z = model.latent, columns = padded(count, COLUMNS), size = Z * columns;
    float *const mean = kept, *const deviation = mean + size, *const noise = deviation + size, *const code = noise + size;
    begin_product(size, mean, deviation);
    float* next = kept + 4 * size;
    for (size_t index = 0; index < model.modalities.size(); ++index) {
        const Modality& m = model.modalities[index];
        float* const hidden = next + m.features() * columns;
        float* const own = hidden + m.encoder.rows() * columns;
        if (m.values) {
            read_mask(m.given + first, count, columns, scratch.mask.get());
            read_values(m.standardisation, m.values + first * m.features(), scratch.mask.get(), count, columns, next);
            through(m.encoder, weights[index].encoder, next, columns, hidden, scratch.one.get());
            add_expert(scratch.one.get(), scratch.mask.get(), Z, columns, mean, deviation,
                       [&](int64_t at, Float centre, Float unbounded, Float spread, Float precision) {
                           store(own + at, centre);
                           store(own + size + at, precision);
                           store(own + 2 * size + at, spread);
                           store(own + 3 * size + at, sigmoid(unbounded));
                       });
        }
        next += m.rows(Z) * columns;
    }
    end_product(size, mean, deviation);
    if (model.noise) read(model.noise + first * Z, Z, count, columns, noise);
    else std::memset(noise, 0, size * 4);
    float *const loss = scratch.loss.get(), *const row = scratch.row.get();
    for (int64_t column = 0; column < columns; column += LANES) {
        Float sum = all(0.0F), counted = all(0.0F);
        for (int64_t at = column; at < size; at += columns) {
            const Float centre = load(mean + at), spread = load(deviation + at);
            store(code + at, centre + spread * load(noise + at));
            const Float kl = kl_from_standard(centre, spread);
            store(scratch.one.get() + at, kl);
            sum += kl;
            counted += kl < model.free_bits ? all(model.free_bits) : kl;
        }
        store(row + column, sum);
        store(loss + column, model.beta * (model.free_bits > 0 ? counted : sum));
    }
    std::memcpy(out.kl + first, row, count * 4);
    write_columns(scratch.one.get(), columns, count, Z, Z, out.kl_of_features + first * Z);

    next = kept + 4 * size;
    float *log_likelihood = out.log_likelihood, *errors = out.errors;
    for (size_t index = 0; index < model.modalities.size(); ++index) {
        const Modality& m = model.modalities[index];
        float* const hidden = next + m.encoded_rows(Z) * columns;
        next += m.rows(Z) * columns;
        if (!m.targets) continue;
        read_mask(m.wanted + first, count, columns, scratch.mask.get());
        read_values(m.standardisation, m.targets + first * m.features(), scratch.mask.get(), count, columns,
                    scratch.target.get());
        through(m.decoder, weights[index].decoder, code, columns, hidden, scratch.one.get());
        density(m, scratch.one.get(), scratch.target.get(), scratch.mask.get(), columns, row,
                hidden + m.decoder.rows() * columns, m.learned ? errors : nullptr);
        std::memcpy(log_likelihood + first, row, count * 4);
        for (int64_t column = 0; column < columns; column += LANES) {
            store(loss + column, load(loss + column) - model.weights[index] * load(row + column));
        }
        log_likelihood += model.samples;
        if (m.learned) errors += 1 + m.standardisation.scales;
    }
    std::memcpy(out.loss + first, loss, count * 4);
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

// Rows of the workspace. It has as many columns as there are samples, padded to a multiple of COLUMNS.
void sensorium_elbo_rows(const int64_t* plan, int64_t* rows) { *rows = Model(0, plan, nullptr, nullptr).rows(); }

// out: as in Outputs.
void sensorium_elbo_forward(int64_t samples, const int64_t* plan, const void* const* in, const float* scalars,
                            float* const* out) {
    const Model model(samples, plan, in, scalars);
    const Outputs outputs{out[0], out[1], out[2], out[3], out[4], out[5]};
    float* errors = outputs.errors;
    for (const Modality& m : model.modalities) {
        if (!m.targets || !m.learned) continue;
        std::memset(errors, 0, (1 + m.standardisation.scales) * 4);
        errors += 1 + m.standardisation.scales;
    }
    const std::vector<Halves> weights = halves(model, false);
    const int64_t widest = std::min(padded(samples, COLUMNS), BLOCK), rows = model.rows();
    const Scratch scratch(model, widest);
    const Array unkept(outputs.workspace ? 0 : rows * widest);
    for (int64_t first = 0; first < samples; first += BLOCK) {
        float* const kept = outputs.workspace ? outputs.workspace + first * rows : unkept.get();
        forward(model, weights, scratch, first, std::min(BLOCK, samples - first), kept, outputs);
    }
}

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
