/* SPDX-License-Identifier: Apache-2.0
 * Pooling on the way back, of the arithmetic that includes this:
 *   VALUE           type of a feature or an error
 *   SHARE(e, g)     what each feature of a mean gets of its error
 *   POOL(name)      name of a function */

/* Errors of the input x from those of the output: `none` but where they come through. */
static void POOL(backward_pool)(const geometry_t *g, const VALUE *x, const VALUE *e, VALUE none,
                                VALUE *behind) {
    for (int i = 0; i < n_in(g); i++)
        behind[i] = none;
    for (int position = 0; position < positions(g); position++) {
        pieces_t p;
        pieces_of(g, position, &p);
        for (int r = 0; r < g->rows; r++, e++) {
            int best = p.input + r;
            if (*e == none)
                continue;
            for (int k = 0; k < p.count; k++)
                for (int i = 0; i < p.length; i++) {
                    int at = input_of(&p, k) + i * g->c + r;
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
