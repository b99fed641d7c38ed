/* A linear layer on images that are mostly blank: only pixels with ink are read and multiplied.
 *
 * An image's ink is a list of pixels, each with the steps from the pixel before it. Weights lie in blocks of 16 or 32
 * units, for each pixel a block's units side by side. A thread has its own blocks, forward and backward, so that no two
 * write the same memory and results do not depend on how many there are.
 *
 * For processors with AVX2 and FMA. Vectors of AVX-512 were no quicker on an AMD EPYC that has them (November 2026),
 * since reading the weights takes most of the time; without either, gcc makes code that is slower than torch's.
 */

#include <stdint.h>
#include <string.h>

#if defined(_OPENMP) && defined(__clang__)
#error "clang's threads are of another OpenMP than torch's: without -fopenmp, kernels take one"
#endif

enum { LANES = 8, TOGETHER = 4 }; /* numbers in a vector; pixels of a list come in such groups */

typedef float vector __attribute__((vector_size(32), aligned(4), may_alias));

typedef struct {
  uint8_t steps, value;
} pixel;

#define INLINE static inline __attribute__((always_inline))

/* Lists one image's ink, or counts what its list takes; one to four pixels without ink end it. */
INLINE int64_t list_image(const uint8_t *image, int64_t pixels, pixel *ink, const int count_alone) {
  int64_t listed = 0, at = 0;
  for (int64_t first = 0, end; first < pixels; first = end) {
    end = first + 8 < pixels ? first + 8 : pixels;
    uint64_t eight = 1;
    if (end - first == 8) memcpy(&eight, image + first, 8);
    if (!eight) continue; /* most are blank */
    while (end - 1 - at > UINT8_MAX) {
      uint8_t steps = (uint8_t)(first - at < UINT8_MAX ? first - at : UINT8_MAX);
      if (!count_alone) ink[listed] = (pixel){steps, 0};
      at += steps;
      listed++;
    }
    for (int64_t place = first; place < end; place++) { /* without branches: a pixel without ink is written over */
      uint8_t value = image[place];
      if (!count_alone) ink[listed] = (pixel){(uint8_t)(place - at), value};
      at += (place - at) & -(int64_t)(value != 0);
      listed += value != 0;
    }
  }
  do {
    if (!count_alone) ink[listed] = (pixel){0, 0};
  } while (++listed % TOGETHER);
  return listed;
}

/* Where the lists of images[rows] will start, and the last one end: n + 1 places. */
void count_ink(const uint8_t *images, const int64_t *rows, int64_t n, int64_t pixels, int64_t *starts) {
  starts[0] = 0;
#pragma omp parallel for schedule(static)
  for (int64_t row = 0; row < n; row++) starts[row + 1] = list_image(images + rows[row] * pixels, pixels, NULL, 1);
  for (int64_t row = 0; row < n; row++) starts[row + 1] += starts[row];
}

/* Lists the ink of images[rows], where `count_ink` says. */
void list_ink(const uint8_t *images, const int64_t *rows, int64_t n, int64_t pixels, const int64_t *starts,
              pixel *ink) {
#pragma omp parallel for schedule(static)
  for (int64_t row = 0; row < n; row++) list_image(images + rows[row] * pixels, pixels, ink + starts[row], 0);
}

/* The lists stand in memory in another order than they are read. */
INLINE void fetch_ahead(const int64_t *rows, int64_t row, int64_t n, const int64_t *starts, const pixel *ink) {
  if (row + 6 < n) __builtin_prefetch(starts + rows[row + 6]);
  if (row + 2 < n)
    for (int64_t byte = 0; byte < 384; byte += 64)
      __builtin_prefetch((const char *)(ink + starts[rows[row + 2]]) + byte);
}

INLINE void forward_block(const int vectors, const int64_t *rows, int64_t n, const int64_t *starts, const pixel *ink,
                          float unit, const float *weights, const float *bias, float *outputs, int64_t stride) {
  for (int64_t row = 0; row < n; row++) {
    const float *of_pixel = weights;
    vector even[4] = {{0}}, odd[4] = {{0}}; /* two sums, since an addition waits for the one before it */
    fetch_ahead(rows, row, n, starts, ink);
    for (const pixel *at = ink + starts[rows[row]], *end = ink + starts[rows[row] + 1]; at < end; at += TOGETHER)
      for (int each = 0; each < TOGETHER; each++) {
        of_pixel += at[each].steps * LANES * vectors;
        float value = at[each].value;
        vector *sum = each % 2 ? odd : even;
        for (int part = 0; part < vectors; part++) sum[part] += value * ((const vector *)of_pixel)[part];
      }
    for (int part = 0; part < vectors; part++)
      ((vector *)(outputs + row * stride))[part] = (even[part] + odd[part]) * unit + ((const vector *)bias)[part];
  }
}

INLINE void learn_block(const int vectors, const int64_t *rows, int64_t n, const int64_t *starts, const pixel *ink,
                        float unit, const float *gradient, int64_t stride, float rate, float *weights, float *bias) {
  for (int64_t row = 0; row < n; row++) {
    float *of_pixel = weights;
    vector step[4];
    for (int part = 0; part < vectors; part++) {
      step[part] = ((const vector *)(gradient + row * stride))[part] * rate;
      ((vector *)bias)[part] -= step[part];
      step[part] *= unit;
    }
    fetch_ahead(rows, row, n, starts, ink);
    for (const pixel *at = ink + starts[rows[row]], *end = ink + starts[rows[row] + 1]; at < end; at += TOGETHER)
      for (int each = 0; each < TOGETHER; each++) {
        of_pixel += at[each].steps * LANES * vectors;
        float value = at[each].value;
        for (int part = 0; part < vectors; part++) ((vector *)of_pixel)[part] -= value * step[part];
      }
  }
}

/* outputs (n, stride) = unit * images[rows] @ weights + bias, of the first blocks * width columns.
 * weights (blocks, pixels, width), bias (blocks, width), width 16 or 32. */
void ink_forward(const int64_t *rows, int64_t n, const int64_t *starts, const pixel *ink, int64_t pixels, float unit,
                 int64_t blocks, int64_t width, const float *weights, const float *bias, float *outputs,
                 int64_t stride) {
#pragma omp parallel for schedule(static)
  for (int64_t block = 0; block < blocks; block++) {
    const float *from = weights + block * pixels * width, *first = bias + block * width;
    float *to = outputs + block * width;
    /* The number of vectors is known in either call, so that sums stay in registers. */
    if (width == 16)
      forward_block(2, rows, n, starts, ink, unit, from, first, to, stride);
    else
      forward_block(4, rows, n, starts, ink, unit, from, first, to, stride);
  }
}

/* weights -= rate * unit * images[rows].T @ gradient, bias -= rate * sum(gradient); gradient as outputs are. */
void ink_learn(const int64_t *rows, int64_t n, const int64_t *starts, const pixel *ink, int64_t pixels, float unit,
               int64_t blocks, int64_t width, const float *gradient, int64_t stride, float rate, float *weights,
               float *bias) {
#pragma omp parallel for schedule(static)
  for (int64_t block = 0; block < blocks; block++) {
    const float *from = gradient + block * width;
    float *to = weights + block * pixels * width, *first = bias + block * width;
    if (width == 16)
      learn_block(2, rows, n, starts, ink, unit, from, stride, rate, to, first);
    else
      learn_block(4, rows, n, starts, ink, unit, from, stride, rate, to, first);
  }
}
