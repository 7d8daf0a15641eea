/* Exact retrieval as one writes it in C without intrinsics: int8 rows, one pass, a sampled threshold.
 *
 * Not shipped: it shows what numpy costs beside a loop, and reading the bytes what memory allows.
 */
#include <stdint.h>
#include <stdlib.h>

static int falling(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x < y) - (x > y);
}

/* Scores of n rows of d int8 values; those above the threshold of a sample are counted. */
long scan(const int8_t *rows, const float *scales, const int8_t *query, long n, long d, long k,
          float *scores, int32_t *best) {
    for (long i = 0; i < n; i++) {
        const int8_t *row = rows + i * d;
        int32_t sum = 0;
        for (long j = 0; j < d; j++) sum += (int32_t)row[j] * query[j];
        scores[i] = sum * scales[i];
    }
    enum { SAMPLE = 1024 };
    float sample[SAMPLE];
    long step = n / SAMPLE ? n / SAMPLE : 1, count = 0;
    for (long i = 0; i < n && count < SAMPLE; i += step) sample[count++] = scores[i];
    qsort(sample, count, sizeof(float), falling);
    long place = 2 * k / step + 1;
    float least = sample[place < count ? place : count - 1];
    long found = 0;
    for (long i = 0; i < n; i++)
        if (scores[i] >= least) best[found++] = (int32_t)i;
    return found;
}

/* Merely reads the bytes. */
long touch(const int64_t *bytes, long words) {
    int64_t sum = 0;
    for (long i = 0; i < words; i++) sum += bytes[i];
    return sum;
}
