/* SPDX-License-Identifier: Apache-2.0
 * Pooling, of the arithmetic that includes this:
 *   VALUE, SUM      type of a feature or an error, and of a sum of them
 *   MEAN(sum, g)    the mean of the features in a sum
 *   SHARE(e, g)     what each feature of a mean gets of its error
 *   POOL(name)      name of a function */

static void POOL(forward_pool)(const geometry_t *g, const VALUE *x, VALUE *y) {
    for (int position = 0; position < positions(g); position++, y += g->rows) {
        pieces_t p;
        pieces_of(g, position, &p);
        if (g->kind == MAX_POOL) {
            for (int k = 0; k < p.count; k++)
                for (int i = 0; i < p.length; i++) {
                    const VALUE *one = x + p.at[k].input + i * g->c;
                    for (int r = 0; r < g->rows; r++)
                        if (k + i == 0 || one[r] > y[r])
                            y[r] = one[r];
                }
            continue;
        }
        for (int r = 0; r < g->rows; r++) {
            SUM sum = 0;
            for (int k = 0; k < p.count; k++)
                for (int i = 0; i < p.length; i++)
                    sum += x[p.at[k].input + i * g->c + r];
            y[r] = (VALUE)MEAN(sum, g);
        }
    }
}

/* Errors of the input x from those of the output: `none` but where they come through. */
static void POOL(backward_pool)(const geometry_t *g, const VALUE *x, const VALUE *e, VALUE none,
                                VALUE *behind) {
    for (int i = 0; i < n_in(g); i++)
        behind[i] = none;
    for (int position = 0; position < positions(g); position++) {
        pieces_t p;
        pieces_of(g, position, &p);
        for (int r = 0; r < g->rows; r++, e++) {
            int best = p.at[0].input + r;
            if (*e == none)
                continue;
            for (int k = 0; k < p.count; k++)
                for (int i = 0; i < p.length; i++) {
                    int at = p.at[k].input + i * g->c + r;
                    if (g->kind == AVERAGE_POOL)
                        behind[at] = x[at] ? SHARE(*e, g) : none;
                    else if (x[at] > x[best])
                        best = at;
                }
            if (g->kind == MAX_POOL)
                behind[best] = *e;
        }
    }
}
