/* Exact retrieval as one writes it in C without intrinsics: int8 rows, one pass, a running threshold.
 *
 * Not shipped: it shows what numpy costs beside a loop, and reading the bytes what memory allows.
 */
#include <math.h>
#include <stdint.h>

enum { ROOM = 4 }; /* Times k: how many are held before the worst of them go. */

static void swap(float *scores, int32_t *titles, long a, long b) {
    float score = scores[a];
    int32_t title = titles[a];
    scores[a] = scores[b], titles[a] = titles[b];
    scores[b] = score, titles[b] = title;
}

/* Hoare's selection: the k best come first, the k-th at its place. */
static void select_best(float *scores, int32_t *titles, long n, long k) {
    for (long left = 0, right = n - 1; left < right;) {
        float pivot = scores[(left + right) / 2];
        long i = left, j = right;
        while (i <= j) {
            while (scores[i] > pivot) i++;
            while (scores[j] < pivot) j--;
            if (i <= j) swap(scores, titles, i++, j--);
        }
        if (k - 1 <= j) right = j;
        else if (k - 1 >= i) left = i;
        else return;
    }
}

/* The k best of n rows of d int8 values, in no order; both outputs have room for 4k. */
long scan(const int8_t *rows, const float *scales, const int16_t *query, long n, long d, long k,
          float *scores, int32_t *titles) {
    float least = -INFINITY;
    long held = 0;
    for (long i = 0; i < n; i++) {
        const int8_t *row = rows + i * d;
        int32_t sum = 0;
        for (long j = 0; j < d; j++) sum += (int16_t)row[j] * query[j];
        float score = (float)sum * scales[i];
        if (score <= least) continue;
        scores[held] = score, titles[held++] = (int32_t)i;
        if (held == ROOM * k) {
            select_best(scores, titles, held, k);
            least = scores[k - 1], held = k;
        }
    }
    if (held > k) select_best(scores, titles, held, k);
    return held < k ? held : k;
}

/* Merely reads the bytes. */
long touch(const int64_t *bytes, long words) {
    int64_t sum = 0;
    for (long i = 0; i < words; i++) sum += bytes[i];
    return sum;
}
