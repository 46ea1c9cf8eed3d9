/* SPDX-License-Identifier: Apache-2.0
 * The loss: softmax to the base 2. */
#include "kernels.h"
#include "loss.h"
#include "passes.h"

enum { LOGIT_FRAC = 4, D_MAX = 255 };

static const uint16_t EXP_TABLE[16] = {
    4096, 3922, 3756, 3596, 3444, 3298, 3158, 3024, 2896, 2773, 2655, 2543, 2435, 2332, 2233, 2138};

/* floor(2**12 * 2**(-d/16)) */
static int32_t exp2_negative(int d) { return EXP_TABLE[d & 15] >> (d >> 4); }

int32_t head_errors(const network_t *net, int frac, int label) {
    int32_t *l = net->logits, most = INT32_MIN, sum = 0;
    int n = classes(net);
    for (int c = 0; c < n; c++) {
        l[c] = clip(rnd(l[c], frac - LOGIT_FRAC), -2048, 2047);
        most = l[c] > most ? l[c] : most;
    }
    for (int c = 0; c < n; c++) {
        l[c] = most - l[c];
        sum += exp2_negative(l[c] < D_MAX ? l[c] : D_MAX);
    }
    int32_t log_sum = ilog2(sum) - (EXP_FRAC << 8);
    int32_t loss = (l[label] << 4) + log_sum;
    for (int c = 0; c < n; c++) {
        int32_t d = (l[c] < D_MAX ? l[c] : D_MAX) + ((log_sum + 8) >> 4);
        l[c] = (exp2_negative(d < D_MAX ? d : D_MAX) >> 4) - (c == label ? 256 : 0);
    }
    return loss < LOSS_MAX ? loss : LOSS_MAX;
}
