/* SPDX-License-Identifier: Apache-2.0 */
#include "softmax.h"

#include <string.h>

#include "affine.h"
#include "loss.h"

#define LOG2_E 1.4426950f

/* 2**d for d <= 0; 2**-64 below that. */
static float exp2_negative(float d) {
    static const float P[] = {1.0f,         0.6931476f,   0.24020687f,
                              0.055658665f, 0.009196802f, 0.0017896651f};
    d = d < -64.0f ? -64.0f : d;
    int32_t n = floored(d), bits = (n + 127) * (1 << 23);
    float f = d - (float)n, p = P[5], power;
    for (int i = 4; i >= 0; i--)
        p = p * f + P[i];
    memcpy(&power, &bits, sizeof power);
    return p * power;
}

int32_t head_errors(float *logits, int n, int label) {
    float most = logits[0], sum = 0.0f;
    for (int c = 1; c < n; c++)
        most = logits[c] > most ? logits[c] : most;
    float below = limited((logits[label] - most) * LOG2_E * -256.0f + 0.5f, 0.0f, LOSS_MAX);
    for (int c = 0; c < n; c++) {
        logits[c] = exp2_negative((logits[c] - most) * LOG2_E);
        sum += logits[c];
    }
    int32_t loss = floored(below) + ilog2((int32_t)(sum * (1 << EXP_FRAC))) - (EXP_FRAC << 8);
    for (int c = 0; c < n; c++)
        logits[c] /= sum;
    logits[label] -= 1.0f;
    return loss < LOSS_MAX ? loss : LOSS_MAX;
}
