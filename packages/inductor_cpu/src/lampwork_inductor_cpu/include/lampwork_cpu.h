// lampwork_cpu.h: what generated CPU kernels are written in.
//
// Vectors of `lanes` elements over the compiler's vector extensions: one register of 32-bit elements, two of 64-bit ones, a part
// of one for narrower types. Every mathematical function is one template that runs on a scalar or on a register, so that a
// vector loop and its scalar counterpart agree bit for bit. No includes but <stdint.h>: the header parses in milliseconds.
//
// Invariants: nan, inf, -0.0 and denormals behave as in the scalar reference; a masked load touches no inactive element.
#pragma once
#include <stdint.h>

#ifndef LAMPWORK_VECTOR_BYTES
#define LAMPWORK_VECTOR_BYTES 16
#endif
#ifdef __clang__
#define LW_MEMORY(T, W, p) ((const reg<T, W>*)(p))
#define LW_WRITABLE(T, W, p) ((reg<T, W>*)(p))
#else
#define LW_MEMORY(T, W, p) ((const T*)(p))  // clang and gcc declare masked moves differently
#define LW_WRITABLE(T, W, p) ((T*)(p))
#endif
#define LW static inline __attribute__((always_inline))
#define LW_LAMBDA __attribute__((always_inline))
#if defined(__FMA__) || defined(__aarch64__)
#define LW_HAS_FMA 1
#else
#define LW_HAS_FMA 0
#endif

namespace lw {

constexpr int lanes = LAMPWORK_VECTOR_BYTES / 4;
#if LAMPWORK_VECTOR_BYTES == 64
#define LW_LOW 0, 1, 2, 3, 4, 5, 6, 7
#define LW_HIGH 8, 9, 10, 11, 12, 13, 14, 15
#elif LAMPWORK_VECTOR_BYTES == 32
#define LW_LOW 0, 1, 2, 3
#define LW_HIGH 4, 5, 6, 7
#else
#define LW_LOW 0, 1
#define LW_HIGH 2, 3
#endif

struct half { uint16_t bits; };
struct bfloat16 { uint16_t bits; };

// ---------------------------------------------------------------------------------------------------------------- registers

template <class T, int W> struct register_of { typedef T type __attribute__((vector_size(W * sizeof(T)))); };
template <class T, int W> using reg = typename register_of<T, W>::type;
typedef reg<float, lanes> f32v;
typedef reg<int32_t, lanes> i32v;
typedef reg<int64_t, lanes / 2> i64v;

template <class To, class From> LW To bits_as(From x) {
  static_assert(sizeof(To) == sizeof(From), "bits_as keeps the size");
  To r;
  __builtin_memcpy(&r, &x, sizeof r);
  return r;
}
// the two halves of a register, and the register of two halves
template <class T> LW reg<T, lanes / 2> low(reg<T, lanes> x) { return __builtin_shufflevector(x, x, LW_LOW); }
template <class T> LW reg<T, lanes / 2> high(reg<T, lanes> x) { return __builtin_shufflevector(x, x, LW_HIGH); }
template <class T> LW reg<T, lanes> join(reg<T, lanes / 2> a, reg<T, lanes / 2> b) {
  return __builtin_shufflevector(a, b, LW_LOW, LW_HIGH);
}

// `F` below is float or f32v, `I` its integer counterpart, `C` the type of its comparisons
template <class F> struct counterpart;
template <> struct counterpart<float> { typedef int32_t I; };
template <> struct counterpart<f32v> { typedef i32v I; };
template <class F> using int_of = typename counterpart<F>::I;
LW float select(bool c, float a, float b) { return c ? a : b; }
LW f32v select(i32v c, f32v a, f32v b) { return c ? a : b; }
LW i32v select(i32v c, i32v a, i32v b) { return c ? a : b; }
LW int32_t select(bool c, int32_t a, int32_t b) { return c ? a : b; }
LW float fill(float, float x) { return x; }
LW f32v fill(f32v, float x) { return x - f32v{}; }
LW int32_t to_int(float x) { return x >= -2147483648.0f && x < 2147483648.0f ? (int32_t)x : INT32_MIN; }
LW i32v to_int(f32v x) { return __builtin_convertvector(x, i32v); }
LW float to_float(int32_t x) { return (float)x; }
LW f32v to_float(i32v x) { return __builtin_convertvector(x, f32v); }
LW bool any(bool c) { return c; }
LW bool any(i32v c) { int32_t r = 0; for (int i = 0; i < lanes; ++i) r |= c[i]; return r != 0; }

#define LW_PER_LANE_1(name, f)                                                                        \
  LW float name(float x) { return f(x); }                                                             \
  LW f32v name(f32v x) { f32v r; for (int i = 0; i < lanes; ++i) r[i] = f(x[i]); return r; }
LW_PER_LANE_1(sqrt_, __builtin_sqrtf)
LW_PER_LANE_1(floor_, __builtin_floorf)
LW_PER_LANE_1(ceil_, __builtin_ceilf)
LW_PER_LANE_1(trunc_, __builtin_truncf)
LW_PER_LANE_1(rint_, __builtin_rintf)
LW_PER_LANE_1(fabs_, __builtin_fabsf)
#undef LW_PER_LANE_1
#if LW_HAS_FMA
LW float mad(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
LW f32v mad(f32v a, f32v b, f32v c) { f32v r; for (int i = 0; i < lanes; ++i) r[i] = __builtin_fmaf(a[i], b[i], c[i]); return r; }
#else
LW float mad(float a, float b, float c) { return a * b + c; }
LW f32v mad(f32v a, f32v b, f32v c) { return a * b + c; }
#endif
LW f32v mad(f32v a, float b, f32v c) { return mad(a, fill(a, b), c); }
LW f32v mad(f32v a, f32v b, float c) { return mad(a, b, fill(a, c)); }
template <class F> LW F horner(F, float c) { return fill(F{}, c); }
template <class F, class... C> LW F horner(F x, float c, C... rest) { return mad(x, horner(x, rest...), fill(x, c)); }

// --------------------------------------------------------------------------------------------------- functions of one register

// 2**n * x for an integer-valued n in [-252, 254]; two steps reach denormals and infinity, rounding once
LW float scale(float x, float n) {
  const int32_t k = to_int(n), k1 = k >> 1, k2 = k - k1;
  return x * bits_as<float>((k1 + 127) << 23) * bits_as<float>((k2 + 127) << 23);
}
LW f32v scale(f32v x, f32v n) {
#if LAMPWORK_VECTOR_BYTES == 64 && defined(__AVX512F__)
  return __builtin_ia32_scalefps512_mask(x, n, x, (uint16_t)-1, 4);
#else
  const i32v k = to_int(n), k1 = k >> 1, k2 = k - k1;
  return x * bits_as<f32v>((i32v)((k1 + 127) << 23)) * bits_as<f32v>((i32v)((k2 + 127) << 23));
#endif
}
// exp(r) and exp(r)-1 around zero: n = rint(x / ln 2), r = x - n ln 2 in two steps
template <class F> LW F exp_tail(F r) {
  F p = horner(r, 0.49999994f, 0.166665092f, 0.0416685268f, 0.00837013498f, 0.00138116651f);
  return mad(r * r, p, r) + 1.0f;
}
template <class F> LW F f32_exp(F x) {
  x = select(x > 89.0f, fill(x, 89.0f), x);
  x = select(x < -104.0f, fill(x, -104.0f), x);
  F n = rint_(x * 1.44269504f);
  F r = mad(n, -1.4286068203094173e-06f, mad(n, -0.693145751953125f, x));
  return scale(exp_tail(r), n);
}
template <class F> LW F f32_exp2(F x) {
  x = select(x > 129.0f, fill(x, 129.0f), x);
  x = select(x < -151.0f, fill(x, -151.0f), x);
  F n = rint_(x), r = x - n;
  F p = horner(r, 0.693147182f, 0.240226507f, 0.0555041097f, 0.00961803272f, 0.00133334252f, 0.000154683905f, 1.53162018e-05f);
  return scale(mad(r, p, 1.0f), n);
}
template <class F> LW F f32_expm1(F x) {
  F y = select(x > 89.0f, fill(x, 89.0f), x);
  y = select(y < -20.0f, fill(x, -20.0f), y);
  F n = rint_(y * 1.44269504f);
  F r = mad(n, -1.4286068203094173e-06f, mad(n, -0.693145751953125f, y));
  F p = horner(r, 0.5f, 0.166666667f, 0.0416666667f, 0.00833333333f, 0.00138888889f, 0.000198412698f);
  F tail = mad(r * r, p, r);
  F power = scale(fill(x, 1.0f), n - 1.0f);  // one less: 2**128 is out of range, 2**127 * 2 is not
  F result = (mad(power, tail, power - 0.5f)) * 2.0f;
  return select(fabs_(x) < 1e-7f, x, result);
}
// mantissa m in [sqrt(1/2), sqrt(2)) and exponent e of a positive finite x
template <class F> LW F split(F x, F* e) {
  auto denormal = x < 1.17549435e-38f;
  x = select(denormal, x * 8388608.0f, x);
  int_of<F> b = bits_as<int_of<F>>(x), k = (b - 0x3f3504f3) >> 23;
  *e = to_float(k) - select(denormal, fill(x, 23.0f), fill(x, 0.0f));
  return bits_as<F>(b - (k << 23));
}
template <class F> LW F log_cubic(F f) {  // (log1p(f) - f + f*f/2) / f**3
  return horner(f, 0.333333313f, -0.250008255f, 0.200012356f, -0.166231439f, 0.142013684f, -0.131620035f, 0.12765424f,
                -0.0763438419f);
}
template <class F> LW F log_edges(F x, F result) {
  result = select(x == __builtin_inff(), x, result);
  result = select(x == 0.0f, fill(x, -__builtin_inff()), result);
  result = select(x < 0.0f, fill(x, __builtin_nanf("")), result);
  return select(x != x, x, result);
}
template <class F> LW F f32_log(F x) {
  F e, f = split(x, &e) - 1.0f, ff = f * f;
  F tail = mad(e, 1.4286068203094173e-06f * fill(x, 1.0f), mad(ff, -0.5f, ff * f * log_cubic(f)));
  return log_edges(x, mad(e, 0.693145751953125f, f + tail));
}
// log(m)/log(b) in two parts, so that powers of the base come out exact
template <class F> LW F log_base(F x, float high, float low, float exponent_high, float exponent_low) {
  F e, f = split(x, &e) - 1.0f, ff = f * f;
  F tail = mad(ff, -0.5f, ff * f * log_cubic(f));  // log1p(f) = f + tail
  F r = mad(f, low, mad(tail, high, e * exponent_low));
  return log_edges(x, mad(e, exponent_high, mad(f, high, r)));
}
template <class F> LW F f32_log2(F x) { return log_base(x, 1.44269502f, 1.92596303e-08f, 1.0f, 0.0f); }
template <class F> LW F f32_log10(F x) { return log_base(x, 0.434294492f, -1.01055703e-08f, 0.301029205f, 7.90710447e-07f); }
template <class F> LW F f32_log1p(F x) {
  F u = x + 1.0f;
  F correction = (x - (u - 1.0f)) / u;
  F result = f32_log(u) + select((fabs_(x) < 1e10f) & (u != 0.0f), correction, fill(x, 0.0f));
  return select(fabs_(x) < 1e-7f, x, result);
}
// sine and cosine: quadrant by rint(x * 2/pi), three-step reduction good to |x| < 48000
template <class F, bool Cosine> LW F sine(F x) {
  F n = rint_(x * 0.636619772f);
  F r = mad(n, 1.71512451e-15f, mad(n, 4.37113883e-08f, mad(n, -1.57079637f, x)));
  int_of<F> q = to_int(n) + (Cosine ? 1 : 0);
  F s = r * r;
  F sin_r = mad(r * s, horner(s, -0.166666672f, 0.00833332911f, -0.000198392561f, 2.71756448e-06f), r);
  F cos_r = mad(s * s, horner(s, 0.0416666679f, -0.00138888834f, 2.47994358e-05f, -2.72033077e-07f), mad(s, -0.5f, fill(x, 1.0f)));
  F result = select((q & 1) != 0, cos_r, sin_r);
  result = bits_as<F>(bits_as<int_of<F>>(result) ^ ((q & 2) << 30));
  return Cosine ? result : select(x == 0.0f, x, result);
}
template <class F> LW F f32_tanh(F x) {
  F a = fabs_(x), s = x * x;
  F small = mad(x * s, horner(s, -0.333333284f, 0.133331582f, -0.0539405644f, 0.021666348f, -0.00809197128f, 0.00206466741f), x);
  F large = 1.0f - 2.0f / (f32_exp(a + a) + 1.0f);
  large = bits_as<F>(bits_as<int_of<F>>(large) | (bits_as<int_of<F>>(x) & INT32_MIN));
  return select(a < 0.625f, small, select(x != x, x, large));
}
template <class F> LW F f32_sigmoid(F x) { return 1.0f / (1.0f + f32_exp(-x)); }
template <class F> LW F f32_erf(F x) {
  F a = fabs_(x), s = x * x;
  F small = mad(x, horner(s, 0.128379166f, -0.376126319f, 0.112836726f, -0.0268581044f, 0.00519779744f, -0.000810596568f,
                          8.21542708e-05f), x);
  a = select(a > 4.0f, fill(x, 4.0f), a);
  F p = horner(a, -8.59413994e-05f, 1.12897968f, 0.634753585f, 0.106167324f, -0.0231226422f, 0.00294060283f, 5.95308338e-05f,
               -0.000103407721f, 1.78625196e-05f, -1.11077691e-06f);
  F large = 1.0f - f32_exp(-p);
  large = bits_as<F>(bits_as<int_of<F>>(large) | (bits_as<int_of<F>>(x) & INT32_MIN));
  return select(fabs_(x) < 0.92f, small, select(x != x, x, large));
}

// half types: integer arithmetic on 32-bit lanes, round to nearest even
template <class F> LW F from_half(int_of<F> h) {
  typedef int_of<F> I;
  I magnitude = (h & 0x7fff) << 13;
  F scaled = bits_as<F>(magnitude) * bits_as<float>((254 - 15) << 23);
  I b = bits_as<I>(scaled), special = select((h & 0x7c00) == 0x7c00, (I)(b | 0x7f800000), b);
  return bits_as<F>((I)(special | ((h & 0x8000) << 16)));
}
template <class F> LW int_of<F> to_half(F x) {
  typedef int_of<F> I;
  I b = bits_as<I>(x), sign = (b >> 16) & 0x8000;
  I magnitude = b & 0x7fffffff;
  // denormal results: the addition rounds; normal ones: add half an ulp and the odd bit
  I tiny = bits_as<I>(bits_as<F>(magnitude) + 0.5f) - 0x3f000000;
  I usual = (magnitude - 0x38000000 + 0xfff + ((magnitude >> 13) & 1)) >> 13;
  I r = select(magnitude < 0x38800000, tiny, usual);
  r = select(magnitude >= 0x47800000, select(magnitude > 0x7f800000, I{} + 0x7e00, I{} + 0x7c00), r);
  return r | sign;
}
template <class F> LW F from_bfloat16(int_of<F> h) { return bits_as<F>((int_of<F>)(h << 16)); }
template <class F> LW int_of<F> to_bfloat16(F x) {
  typedef int_of<F> I;
  I b = bits_as<I>(x), r = (b + 0x7fff + ((b >> 16) & 1)) >> 16;
  return select(x != x, I{} + 0x7fc0, (I)(r & 0xffff));
}

// ------------------------------------------------------------------------------------------------------------ masks, vectors

// which lanes hold: -1 or 0 in each 32-bit lane
struct mask {
  i32v m;
  mask() = default;
  mask(bool c) : m(i32v{} - (int32_t)c) {}
  explicit mask(i32v x) : m(x) {}
  bool operator[](int i) const { return m[i] != 0; }
  LW_LAMBDA friend mask operator&(mask a, mask b) { return mask(a.m & b.m); }
  LW_LAMBDA friend mask operator|(mask a, mask b) { return mask(a.m | b.m); }
  LW_LAMBDA friend mask operator^(mask a, mask b) { return mask(a.m ^ b.m); }
  LW_LAMBDA friend mask operator!(mask a) { return mask(~a.m); }
};
// every lane, known while compiling
struct all_lanes { bool operator[](int) const { return true; } };
constexpr all_lanes all{};
LW mask operator&(all_lanes, mask m) { return m; }
LW mask operator&(mask m, all_lanes) { return m; }
LW i32v iota() { i32v r; for (int i = 0; i < lanes; ++i) r[i] = i; return r; }
LW mask first(int64_t n) { return mask(iota() < (int32_t)n); }

template <class T> struct vec {
  static constexpr int width = sizeof(T) == 8 ? lanes / 2 : lanes, pieces = lanes / width;
  typedef reg<T, width> R;
  R v[pieces];
  vec() = default;
  LW_LAMBDA vec(T x) {
    v[0] = x - R{};
    if constexpr (pieces == 2) v[1] = v[0];
  }
  T operator[](int i) const { return v[i / width][i % width]; }
  void set(int i, T x) { v[i / width][i % width] = x; }
// written out for one and two pieces: loops here would be most of what the compiler does
#define LW_BINARY(op)                                                         \
  LW_LAMBDA friend vec operator op(vec a, vec b) {                            \
    a.v[0] = a.v[0] op b.v[0];                                                \
    if constexpr (pieces == 2) a.v[1] = a.v[1] op b.v[1];                     \
    return a;                                                                 \
  }
  LW_BINARY(+) LW_BINARY(-) LW_BINARY(*) LW_BINARY(/) LW_BINARY(&) LW_BINARY(|) LW_BINARY(^)
#undef LW_BINARY
#define LW_COMPARE(op)                                                                                          \
  LW_LAMBDA friend mask operator op(vec a, vec b) {                                                             \
    if constexpr (sizeof(T) == 8)                                                                               \
      return mask(join<int32_t>(__builtin_convertvector(a.v[0] op b.v[0], reg<int32_t, lanes / 2>),             \
                                __builtin_convertvector(a.v[1] op b.v[1], reg<int32_t, lanes / 2>)));           \
    else                                                                                                        \
      return mask(__builtin_convertvector(a.v[0] op b.v[0], i32v));                                             \
  }
  LW_COMPARE(<) LW_COMPARE(<=) LW_COMPARE(>) LW_COMPARE(>=) LW_COMPARE(==) LW_COMPARE(!=)
#undef LW_COMPARE
  LW_LAMBDA friend vec operator-(vec a) { for (R& r : a.v) r = -r; return a; }
  LW_LAMBDA friend vec operator~(vec a) { for (R& r : a.v) r = ~r; return a; }
};

// element by element through a scalar function: operations that no register instruction helps
template <class T, class Fn> LW vec<T> generate(Fn f) {
  T t[lanes];
  for (int i = 0; i < lanes; ++i) t[i] = f(i);
  vec<T> r;
  __builtin_memcpy(&r, t, sizeof t);
  return r;
}
template <class T, class Fn> LW vec<T> generate(all_lanes, Fn f) { return generate<T>(f); }
template <class T, class Fn> LW vec<T> generate(mask active, Fn f) {
  return generate<T>([&](int i) { return active[i] ? (T)f(i) : T(); });
}
template <class Fn> LW mask generate_mask(Fn f) {
  vec<int32_t> r = generate<int32_t>([&](int i) { return f(i) ? -1 : 0; });
  return mask(r.v[0]);
}
template <class Fn> LW mask generate_mask(all_lanes, Fn f) { return generate_mask(f); }
template <class Fn> LW mask generate_mask(mask active, Fn f) {
  return generate_mask([&](int i) { return active[i] && f(i); });
}
template <class T> LW vec<T> splat(T x) { return vec<T>(x); }
LW mask splat(bool x) { return mask(x); }
template <class T> LW vec<T> splat(vec<T> x) { return x; }
LW mask splat(mask x) { return x; }
template <class T> LW vec<T> where(mask c, vec<T> a, vec<T> b) {
  typedef typename vec<T>::R R;
  if constexpr (sizeof(T) == 8) {
    a.v[0] = __builtin_convertvector(low<int32_t>(c.m), i64v) ? a.v[0] : b.v[0];
    a.v[1] = __builtin_convertvector(high<int32_t>(c.m), i64v) ? a.v[1] : b.v[1];
  } else if constexpr (sizeof(T) == 4) {
    a.v[0] = c.m ? a.v[0] : b.v[0];
  } else {
    a.v[0] = __builtin_convertvector(c.m, decltype(R{} == R{})) ? a.v[0] : b.v[0];
  }
  return a;
}
LW mask where(mask c, mask a, mask b) { return (c & a) | (!c & b); }
template <class T> LW T where(bool c, T a, T b) { return c ? a : b; }
template <class T> LW vec<T> where(bool c, vec<T> a, vec<T> b) { return c ? a : b; }
// the value in active lanes, `otherwise` in the others: what keeps a tail out of a reduction
template <class V> LW V keep(all_lanes, V x, V) { return x; }
template <class T> LW vec<T> keep(mask active, vec<T> x, vec<T> otherwise) { return where(active, x, otherwise); }
LW mask keep(mask active, mask x, mask otherwise) { return where(active, x, otherwise); }
// base, base + step, base + 2 step, ...
LW vec<int64_t> ramp(int64_t base, int64_t step) {
  vec<int64_t> r;
  r.v[0] = __builtin_convertvector(low<int32_t>(iota()), i64v) * step + base;
  r.v[1] = __builtin_convertvector(high<int32_t>(iota()), i64v) * step + base;
  return r;
}

// ------------------------------------------------------------------------------------------------------- conversion

template <class To, class From> LW To convert(From x) {
  if constexpr (__is_same(To, bool)) return x != From(0);
  else if constexpr (sizeof(To) < 4 && (__is_same(From, float) || __is_same(From, double))) return (To)(int32_t)x;
  else return (To)x;
}
template <class To, class From> LW vec<To> convert(vec<From> x) {
  typedef vec<To> V;
  typedef typename V::R R;
  if constexpr (sizeof(To) < 4 && (__is_same(From, float) || __is_same(From, double))) {
    return convert<To>(convert<int32_t>(x));
  } else if constexpr (V::pieces == vec<From>::pieces) {
    V r;
    for (int k = 0; k < V::pieces; ++k) r.v[k] = __builtin_convertvector(x.v[k], R);
    return r;
  } else if constexpr (V::pieces == 2) {
    V r;
    r.v[0] = __builtin_convertvector(low<From>(x.v[0]), R);
    r.v[1] = __builtin_convertvector(high<From>(x.v[0]), R);
    return r;
  } else {
    typedef reg<To, lanes / 2> H;
    V r;
    r.v[0] = join<To>(__builtin_convertvector(x.v[0], H), __builtin_convertvector(x.v[1], H));
    return r;
  }
}
template <class To> LW vec<To> convert(mask c) {
  vec<int32_t> one;
  one.v[0] = c.m & 1;
  return convert<To>(one);
}
template <class T> LW mask truth(vec<T> x) { return x != vec<T>(T(0)); }
LW mask truth(mask x) { return x; }
template <class T> LW bool truth(T x) { return x != T(0); }
template <class To, class From> LW To bitcast(From x) { return bits_as<To>(x); }
template <class To, class From> LW vec<To> bitcast(vec<From> x) { return bits_as<vec<To>>(x); }
template <class T> LW float as_float(T);
template <> float as_float<half>(half x) { return from_half<float>(x.bits); }
template <> float as_float<bfloat16>(bfloat16 x) { return from_bfloat16<float>((uint16_t)x.bits); }
LW void narrow(float x, half* p) { p->bits = (uint16_t)to_half(x); }
LW void narrow(float x, bfloat16* p) { p->bits = (uint16_t)to_bfloat16(x); }
// a float rounded to what a half type can hold
template <class H> LW float round_to(float x) { H h; narrow(x, &h); return as_float(h); }
template <class H> LW vec<float> round_to(vec<float> x) {
  if constexpr (__is_same(H, half)) x.v[0] = from_half<f32v>(to_half(x.v[0]));
  else x.v[0] = from_bfloat16<f32v>(to_bfloat16(x.v[0]));
  return x;
}

// ------------------------------------------------------------------------------------------------------- memory

template <class T> struct loaded { typedef vec<T> V; };
template <> struct loaded<bool> { typedef mask V; };
template <> struct loaded<half> { typedef vec<float> V; };
template <> struct loaded<bfloat16> { typedef vec<float> V; };
template <class T> using value_of = typename loaded<T>::V;

template <class T> LW vec<T> load_bits(const T* p, all_lanes) { vec<T> r; __builtin_memcpy(&r, p, sizeof r); return r; }
template <class T> LW vec<T> load_bits(const T* p, mask m) {
#if LAMPWORK_VECTOR_BYTES == 64 && defined(__AVX512DQ__)
  if constexpr (sizeof(T) == 4) {
    const uint16_t k = __builtin_ia32_cvtd2mask512(bits_as<reg<int, 16>>(m.m));
    return bits_as<vec<T>>(__builtin_ia32_loadups512_mask(LW_MEMORY(float, 16, p), reg<float, 16>{}, k));
  }
#elif LAMPWORK_VECTOR_BYTES == 32 && defined(__AVX__)
  if constexpr (sizeof(T) == 4)
    return bits_as<vec<T>>(__builtin_ia32_maskloadps256((const reg<float, 8>*)p, bits_as<reg<int, 8>>(m.m)));
#endif
  return generate<T>(m, [&](int i) { return p[i]; });
}
template <class T> LW void store_bits(T* p, vec<T> x, all_lanes) { __builtin_memcpy(p, &x, sizeof x); }
template <class T> LW void store_bits(T* p, vec<T> x, mask m) {
#if LAMPWORK_VECTOR_BYTES == 64 && defined(__AVX512DQ__)
  if constexpr (sizeof(T) == 4) {
    const uint16_t k = __builtin_ia32_cvtd2mask512(bits_as<reg<int, 16>>(m.m));
    __builtin_ia32_storeups512_mask(LW_WRITABLE(float, 16, p), bits_as<reg<float, 16>>(x), k);
    return;
  }
#elif LAMPWORK_VECTOR_BYTES == 32 && defined(__AVX__)
  if constexpr (sizeof(T) == 4) {
    __builtin_ia32_maskstoreps256((reg<float, 8>*)p, bits_as<reg<int, 8>>(m.m), bits_as<reg<float, 8>>(x));
    return;
  }
#endif
  for (int i = 0; i < lanes; ++i)
    if (m[i]) p[i] = x[i];
}
LW float load(const half* p) { return as_float(*p); }
LW float load(const bfloat16* p) { return as_float(*p); }
template <class T> LW T load(const T* p) { return *p; }
LW void store(half* p, float x) { narrow(x, p); }
LW void store(bfloat16* p, float x) { narrow(x, p); }
template <class T> LW void store(T* p, T x) { *p = x; }
// `lanes` consecutive elements
template <class T, class A> LW value_of<T> load(const T* p, A active) {
  if constexpr (__is_same(T, bool)) return convert<uint8_t>(load_bits((const uint8_t*)p, active)) != vec<uint8_t>(0);
  else if constexpr (__is_same(T, half) || __is_same(T, bfloat16)) {
    i32v h = convert<int32_t>(load_bits((const uint16_t*)p, active)).v[0];
    vec<float> r;
    if constexpr (__is_same(T, half)) r.v[0] = from_half<f32v>(h); else r.v[0] = from_bfloat16<f32v>(h);
    return r;
  } else return load_bits(p, active);
}
template <class T, class A> LW void store(T* p, value_of<T> x, A active) {
  if constexpr (__is_same(T, bool)) store_bits((uint8_t*)p, convert<uint8_t>(x), active);
  else if constexpr (__is_same(T, half) || __is_same(T, bfloat16)) {
    vec<int32_t> h;
    if constexpr (__is_same(T, half)) h.v[0] = to_half(x.v[0]); else h.v[0] = to_bfloat16(x.v[0]);
    store_bits((uint16_t*)p, convert<uint16_t>(h), active);
  } else store_bits(p, x, active);
}
// `f(i)` is the element's offset of lane i
template <class T, class A, class Fn> LW value_of<T> gather(const T* p, A active, Fn f) {
  if constexpr (__is_same(T, bool)) return generate_mask(active, [&](int i) { return p[f(i)]; });
  else if constexpr (__is_same(T, half) || __is_same(T, bfloat16)) return generate<float>(active, [&](int i) { return load(p + f(i)); });
  else return generate<T>(active, [&](int i) { return p[f(i)]; });
}
template <class T, class A, class Fn> LW void scatter(T* p, value_of<T> x, A active, Fn f) {
  for (int i = 0; i < lanes; ++i)
    if (active[i]) {
      if constexpr (__is_same(T, half) || __is_same(T, bfloat16)) narrow(x[i], p + f(i));
      else p[f(i)] = x[i];
    }
}
#include "lampwork_cpu_ops.h"
// A row of one outer point whose length only the run knows: on the stack up to a size, else from the heap.
template <typename T>
struct row {
  static constexpr int64_t most = 32768 / sizeof(T);
  alignas(64) T fixed[most];
  T* data;
  __attribute__((always_inline)) explicit row(const int64_t count)
      : data(count <= most ? fixed : (T*)__builtin_malloc(count * sizeof(T))) {}
  __attribute__((always_inline)) ~row() {
    if (data != fixed) __builtin_free(data);
  }
  row(const row&) = delete;
};

}  // namespace lw
