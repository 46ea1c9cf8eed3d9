/* SPDX-License-Identifier: Apache-2.0
 * A sample's step: forward, loss, backward; now and then, the formats of the weights. */
#include "passes.h"

enum { RANGE_PERIOD = 256 };

/* The weights' format: their largest master keeps within 1/4 to 3/4 of its range. */
static void widen(const layer_t *l) {
    int32_t peak = 0;
    int n = l->g.rows * l->g.columns;
    for (int i = 0; i < n; i++) {
        int32_t m = l->masters[i] ^ (l->masters[i] >> 15);
        peak = m > peak ? m : peak;
    }
    if (peak >= 3 << 13) {
        for (int i = 0; i < n; i++)
            l->masters[i] >>= 1;
        l->range->weight_frac--;
    } else if (peak < 1 << 13) {
        for (int i = 0; i < n; i++)
            l->masters[i] = (int16_t)(l->masters[i] * 2);
        l->range->weight_frac++;
    }
}

int train_step(const network_t *net, int label, const settings_t *settings) {
    int32_t loss = head_errors(net, forward(net, 1), label);
    if (loss >= settings->skip) {
        uint32_t decayed = settings->lr_decay ? *net->samples / settings->lr_decay : 0;
        backward(net, settings->lr_shift + (int)decayed, settings);
    }
    if (++*net->samples % RANGE_PERIOD == 0)
        for (int n = net->first; n < net->n_layers; n++)
            if (net->layers[n].g.trainable)
                widen(&net->layers[n]);
    return loss;
}
