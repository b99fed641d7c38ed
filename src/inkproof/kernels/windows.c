/* Convolutions of small images, as the windows that their taps see: forward, and the gradients for weights and inputs.
 *
 * Numbers of as many images as a part of a batch has lie side by side: a row. A tap of a window is a row of the inputs,
 * or of ones, which biases are the weights of, or of zeros, behind the image's edge. A few sums of two vectors each stay
 * in registers. A thread has parts of the batch, pixels of parts, or taps for itself; results do not depend on how many
 * threads there are. The number of images is a multiple of 16.
 */

#include <stdint.h>

#if defined(_OPENMP) && defined(__clang__)
#error "clang's threads are of another OpenMP than torch's: without -fopenmp, kernels take one"
#endif

enum { LANES = 8, PAIR = 16, FEW = 4 }; /* numbers in a vector and in two; units, channels or taps at a time */

typedef float vector __attribute__((vector_size(32), aligned(4), may_alias));
typedef int32_t bits __attribute__((vector_size(32)));

typedef struct {
  int32_t tap, window;
} use;

#define INLINE static inline __attribute__((always_inline))

/* ReLU, and where it lets pass: what is not a number passes, as in torch. */
INLINE vector relu_of(vector sum) { return (vector)((bits)sum & ~(sum < 0)); }
INLINE vector passed(vector by, vector gradient) { return (vector)((bits)gradient & ~(by <= 0)); }

/* Some units of all windows. */
INLINE void forward_units(const int some, const float *source, const int64_t *rows, int64_t taps, int64_t windows,
                          int64_t images, const float *weights, int64_t units, float unit, int relu, float *outputs) {
  for (int64_t window = 0; window < windows; window++)
    for (int64_t image = 0; image < images; image += PAIR) {
      vector sums[FEW][2] = {{{0}}};
      for (int64_t tap = 0; tap < taps; tap++) {
        const vector *seen = (const vector *)(source + rows[tap * windows + window] * images + image);
        for (int each = 0; each < some; each++)
          for (int half = 0; half < 2; half++) sums[each][half] += weights[tap * units + each] * seen[half];
      }
      for (int each = 0; each < some; each++)
        for (int half = 0; half < 2; half++) {
          vector sum = sums[each][half] * unit;
          *(vector *)(outputs + (each * windows + window) * images + image + half * LANES) =
              relu ? relu_of(sum) : sum;
        }
    }
}

/* outputs (parts, units, windows, images), parts so many numbers apart: unit times the sum over taps, perhaps behind
 * ReLU. source (rows, images); rows (parts, taps, windows) of it; weights (taps, units). */
void windows_forward(const float *source, const int64_t *rows, int64_t parts, int64_t taps, int64_t windows,
                     int64_t images, const float *weights, int64_t units, float unit, int32_t relu, float *outputs,
                     int64_t apart) {
#pragma omp parallel for schedule(static)
  for (int64_t part = 0; part < parts; part++)
    for (int64_t at = 0; at < units;) {
      const int64_t *own = rows + part * taps * windows;
      float *to = outputs + part * apart + at * windows * images;
      if (units - at >= FEW) {
        forward_units(FEW, source, own, taps, windows, images, weights + at, units, unit, relu, to);
        at += FEW;
      } else {
        forward_units(1, source, own, taps, windows, images, weights + at, units, unit, relu, to);
        at++;
      }
    }
}

/* Adds a window's images up: for some taps, and one or two vectors of units. */
INLINE void learn_taps(const int some, const int vectors, const float *source, const int64_t *rows, int64_t windows,
                       int64_t images, const float *turned, int64_t stride, float *sums) {
  const float *seen[FEW];
  vector own[FEW][2];
  for (int tap = 0; tap < some; tap++) {
    seen[tap] = source + rows[tap * windows] * images;
    for (int half = 0; half < vectors; half++) own[tap][half] = ((vector *)(sums + tap * stride))[half];
  }
  for (int64_t image = 0; image < images; image++)
    for (int tap = 0; tap < some; tap++)
      for (int half = 0; half < vectors; half++)
        own[tap][half] += seen[tap][image] * ((const vector *)(turned + image * stride))[half];
  for (int tap = 0; tap < some; tap++)
    for (int half = 0; half < vectors; half++) ((vector *)(sums + tap * stride))[half] = own[tap][half];
}

INLINE void learn_units(const int vectors, const float *source, const int64_t *rows, int64_t taps, int64_t windows,
                        int64_t images, const float *turned, int64_t stride, float *sums) {
  int64_t tap = 0;
  for (; tap + FEW <= taps; tap += FEW)
    learn_taps(FEW, vectors, source, rows + tap * windows, windows, images, turned, stride, sums + tap * stride);
  for (; tap < taps; tap++)
    learn_taps(1, vectors, source, rows + tap * windows, windows, images, turned, stride, sums + tap * stride);
}

/* gradient (taps, units): unit times the sum over windows and images; other arguments as above.
 * gradient of outputs (parts, units, windows, images); room (parts, taps + images, stride) to compute in, units in
 * whole vectors. */
void windows_learn(const float *source, const int64_t *rows, int64_t parts, int64_t taps, int64_t windows,
                   int64_t images, const float *of_outputs, int64_t units, float unit, int64_t stride, float *room,
                   float *gradient) {
#pragma omp parallel
  {
#pragma omp for schedule(static)
    for (int64_t part = 0; part < parts; part++) {
      float *sums = room + part * (taps + images) * stride, *turned = sums + taps * stride;
      for (int64_t at = 0; at < (taps + images) * stride; at++) sums[at] = 0;
      for (int64_t window = 0; window < windows; window++) {
        const int64_t *own = rows + part * taps * windows + window;
        for (int64_t at = 0; at < units; at++)
          for (int64_t image = 0; image < images; image++)
            turned[image * stride + at] = of_outputs[((part * units + at) * windows + window) * images + image];
        int64_t at = 0;
        for (; at + PAIR <= stride; at += PAIR)
          learn_units(2, source, own, taps, windows, images, turned + at, stride, sums + at);
        if (at < stride) learn_units(1, source, own, taps, windows, images, turned + at, stride, sums + at);
      }
    }
#pragma omp for schedule(static)
    for (int64_t tap = 0; tap < taps; tap++)
      for (int64_t at = 0; at < units; at++) {
        float sum = 0;
        for (int64_t part = 0; part < parts; part++) sum += room[(part * (taps + images) + tap) * stride + at];
        gradient[tap * units + at] = sum * unit;
      }
  }
}

/* Of some channels of a pixel: what its uses sum up to, where ReLU let it pass. */
INLINE void pixel_gradient(const int some, const use *uses, const use *end, const float *of_outputs, int64_t images,
                           int64_t windows, const float *weights, int64_t units, int64_t taps_apart,
                           const float *seen, float *gradient, int64_t pixels) {
  for (int64_t image = 0; image < images; image += PAIR) {
    vector sums[FEW][2] = {{{0}}};
    for (const use *each = uses; each < end; each++) {
      const float *of_tap = weights + each->tap * units, *of_window = of_outputs + each->window * images + image;
      for (int64_t unit = 0; unit < units; unit++, of_window += windows * images)
        for (int channel = 0; channel < some; channel++)
          for (int half = 0; half < 2; half++)
            sums[channel][half] += of_tap[channel * taps_apart * units + unit] * ((const vector *)of_window)[half];
    }
    for (int channel = 0; channel < some; channel++)
      for (int half = 0; half < 2; half++) {
        int64_t at = channel * pixels * images + image + half * LANES;
        *(vector *)(gradient + at) = passed(*(const vector *)(seen + at), sums[channel][half]);
      }
  }
}

/* gradient (parts, channels, pixels, images) for what ReLU took before it gave what was seen, in the same form.
 * weights (taps, units), a channel's taps `taps_apart` from those of the one before.
 * uses: the taps of the first channel that see a pixel, pixel by pixel; starts: of each pixel's, and where the last end. */
void windows_gradient(const float *of_outputs, int64_t parts, int64_t units, int64_t windows, int64_t images,
                      const float *weights, int64_t taps_apart, const int32_t *starts, const use *uses,
                      int64_t channels, int64_t pixels, const float *seen, float *gradient) {
#pragma omp parallel for schedule(static) collapse(2)
  for (int64_t part = 0; part < parts; part++)
    for (int64_t pixel = 0; pixel < pixels; pixel++) {
      const float *from = of_outputs + part * units * windows * images;
      const use *first = uses + starts[pixel], *end = uses + starts[pixel + 1];
      for (int64_t channel = 0; channel < channels;) {
        int64_t at = ((part * channels + channel) * pixels + pixel) * images;
        const float *own = weights + channel * taps_apart * units;
        if (channels - channel >= FEW) {
          pixel_gradient(FEW, first, end, from, images, windows, own, units, taps_apart, seen + at, gradient + at,
                         pixels);
          channel += FEW;
        } else {
          pixel_gradient(1, first, end, from, images, windows, own, units, taps_apart, seen + at, gradient + at,
                         pixels);
          channel++;
        }
      }
    }
}
