/* SPDX-License-Identifier: Apache-2.0
 * Pooling, of the arithmetic that includes this:
 *   VALUE, SUM      type of a feature or an error, and of a sum of them
 *   MEAN(sum, g)    the mean of the features in a sum
 *   POOL(name)      name of a function */

static void POOL(forward_pool)(const geometry_t *g, const VALUE *x, VALUE *y) {
    for (int position = 0; position < positions(g); position++, y += g->rows) {
        pieces_t p;
        pieces_of(g, position, &p);
        if (g->kind == MAX_POOL) {
            for (int k = 0; k < p.count; k++)
                for (int i = 0; i < p.length; i++) {
                    const VALUE *one = x + input_of(&p, k) + i * g->c;
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
                    sum += x[input_of(&p, k) + i * g->c + r];
            y[r] = (VALUE)MEAN(sum, g);
        }
    }
}
