// The evidence lower bound of an MM-VAE: the CPU kernel of models/ops/elbo.py.

#include "elbo.h"

namespace {

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
}
