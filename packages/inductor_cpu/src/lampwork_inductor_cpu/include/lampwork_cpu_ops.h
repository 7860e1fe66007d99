// lampwork_cpu_ops.h: the scalar operations by name, for scalars and vectors; horizontal combination; checks.
//
// The second half of lampwork_cpu.h, which includes it inside namespace lw. One name an operation of the loop IR, overloaded
// on float, double, integers, masks and their vectors. Meaning and special values are those of the IR's reference functions.

// ------------------------------------------------------------------------------------------------------- floating point

#define LW_VECTOR_1(name, T) LW vec<T> name(vec<T> x) { return generate<T>([&](int i) { return name(x[i]); }); }
#define LW_VECTOR_2(name, T) LW vec<T> name(vec<T> x, vec<T> y) { return generate<T>([&](int i) { return name(x[i], y[i]); }); }
// own code for float, the C library for double
#define LW_OWN(name)                                                                           \
  LW float name(float x) { return f32_##name(x); }                                             \
  LW vec<float> name(vec<float> x) { x.v[0] = f32_##name(x.v[0]); return x; }                  \
  LW double name(double x) { return __builtin_##name(x); }                                     \
  LW_VECTOR_1(name, double)
// the C library for both
#define LW_LIBRARY(name)                                                                       \
  LW float name(float x) { return __builtin_##name##f(x); }                                    \
  LW double name(double x) { return __builtin_##name(x); }                                     \
  LW_VECTOR_1(name, float) LW_VECTOR_1(name, double)
#define LW_LIBRARY_2(name)                                                                     \
  LW float name(float x, float y) { return __builtin_##name##f(x, y); }                        \
  LW double name(double x, double y) { return __builtin_##name(x, y); }                        \
  LW_VECTOR_2(name, float) LW_VECTOR_2(name, double)
LW_OWN(exp) LW_OWN(exp2) LW_OWN(expm1) LW_OWN(log) LW_OWN(log2) LW_OWN(log10) LW_OWN(log1p) LW_OWN(tanh) LW_OWN(erf)
LW_LIBRARY(tan) LW_LIBRARY(asin) LW_LIBRARY(acos) LW_LIBRARY(atan) LW_LIBRARY(sinh) LW_LIBRARY(cosh) LW_LIBRARY(asinh)
LW_LIBRARY(acosh) LW_LIBRARY(atanh) LW_LIBRARY(erfc) LW_LIBRARY(lgamma)
LW_LIBRARY_2(atan2) LW_LIBRARY_2(hypot) LW_LIBRARY_2(nextafter) LW_LIBRARY_2(fmod)
// the reduction needs products without rounding: elsewhere, and for huge arguments, the C library
constexpr float sine_limit = LW_HAS_FMA ? 48000.0f : -1.0f;
#define LW_SINE(name, cosine)                                                                  \
  LW float name(float x) { return fabs_(x) < sine_limit ? sine<float, cosine>(x) : __builtin_##name##f(x); } \
  LW double name(double x) { return __builtin_##name(x); }                                     \
  LW_VECTOR_1(name, double)                                                                    \
  LW vec<float> name(vec<float> x) {                                                           \
    if (any(!(fabs_(x.v[0]) < sine_limit))) return generate<float>([&](int i) { return name(x[i]); }); \
    x.v[0] = sine<f32v, cosine>(x.v[0]);                                                       \
    return x;                                                                                  \
  }
LW_SINE(sin, false) LW_SINE(cos, true)
LW float sigmoid(float x) { return f32_sigmoid(x); }
LW double sigmoid(double x) { return 1.0 / (1.0 + __builtin_exp(-x)); }
LW vec<float> sigmoid(vec<float> x) { x.v[0] = f32_sigmoid(x.v[0]); return x; }
LW_VECTOR_1(sigmoid, double)

// one register instruction, or a few
#define LW_INSTRUCTION(name, builtin)                                                          \
  LW float name(float x) { return builtin##f(x); }                                             \
  LW double name(double x) { return builtin(x); }                                              \
  template <class T> LW vec<T> name(vec<T> x) {                                                \
    for (auto& r : x.v)                                                                        \
      for (int i = 0; i < vec<T>::width; ++i) r[i] = name(r[i]);                               \
    return x;                                                                                  \
  }
LW_INSTRUCTION(sqrt, __builtin_sqrt) LW_INSTRUCTION(floor, __builtin_floor) LW_INSTRUCTION(ceil, __builtin_ceil)
LW_INSTRUCTION(trunc, __builtin_trunc) LW_INSTRUCTION(round, __builtin_rint) LW_INSTRUCTION(fabs, __builtin_fabs)
template <class T> LW T rsqrt(T x) { return T(1) / sqrt(x); }
template <class T> LW vec<T> rsqrt(vec<T> x) { return vec<T>(1) / sqrt(x); }
template <class T> LW T frac(T x) { return x - trunc(x); }
template <class T> LW bool isnan(T x) { return x != x; }
template <class T> LW mask isnan(vec<T> x) { return x != x; }
template <class T> LW bool isinf(T x) { return fabs(x) == T(__builtin_inf()); }
template <class T> LW mask isinf(vec<T> x) { return fabs(x) == vec<T>(__builtin_inf()); }
LW float fma(float a, float b, float c) { return LW_HAS_FMA ? __builtin_fmaf(a, b, c) : (float)((double)a * b + c); }
LW double fma(double a, double b, double c) { return __builtin_fma(a, b, c); }
template <class T> LW vec<T> fma(vec<T> a, vec<T> b, vec<T> c) {
  for (int k = 0; k < vec<T>::pieces; ++k)
    for (int i = 0; i < vec<T>::width; ++i) a.v[k][i] = fma(a.v[k][i], b.v[k][i], c.v[k][i]);
  return a;
}
LW float copysign(float x, float y) { return __builtin_copysignf(x, y); }
LW double copysign(double x, double y) { return __builtin_copysign(x, y); }
LW vec<float> copysign(vec<float> x, vec<float> y) {
  x.v[0] = bits_as<f32v>((bits_as<i32v>(x.v[0]) & INT32_MAX) | (bits_as<i32v>(y.v[0]) & INT32_MIN));
  return x;
}
LW_VECTOR_2(copysign, double)
LW bool signbit(float x) { return __builtin_signbit(x); }
LW bool signbit(double x) { return __builtin_signbit(x); }
LW bool signbit(bool) { return false; }
LW mask signbit(mask) { return mask(false); }
template <class T> LW bool signbit(T x) { return x < T(0); }
template <class T> LW mask signbit(vec<T> x) {
  if constexpr (__is_same(T, float)) return bitcast<int32_t>(x) < vec<int32_t>(0);
  else if constexpr (__is_same(T, double)) return bitcast<int64_t>(x) < vec<int64_t>(0);
  else return x < vec<T>(T(0));
}
template <class T> LW T pow_(T x, T y) {
  if constexpr (__is_same(T, float)) return __builtin_powf(x, y);
  else if constexpr (__is_same(T, double)) return __builtin_pow(x, y);
  else {
    if (y < T(0)) return x == T(1) ? T(1) : x == T(-1) ? ((y & T(1)) ? T(-1) : T(1)) : T(0);
    T r = 1;
    for (; y; y >>= 1, x = (T)(x * x)) if (y & T(1)) r = (T)(r * x);
    return r;
  }
}
template <class T> LW T pow(T x, T y) { return pow_(x, y); }
template <class T> LW vec<T> pow(vec<T> x, vec<T> y) { return generate<T>([&](int i) { return pow_(x[i], y[i]); }); }

inline double digamma_(double x) {
  if (x == 0.0) return __builtin_copysign(__builtin_inf(), -x);
  double reflected = 0.0;
  if (x < 0.0) {
    if (x == __builtin_trunc(x)) return __builtin_nan("");
    reflected = -3.14159265358979323846 / __builtin_tan(3.14159265358979323846 * (x - __builtin_trunc(x)));
    x = 1.0 - x;
  }
  double r = 0.0;
  for (; x < 10.0; x += 1.0) r -= 1.0 / x;
  const double z = 1.0 / (x * x);
  const double series = z * (1.0 / 12 - z * (1.0 / 120 - z * (1.0 / 252 - z * (1.0 / 240 - z * (1.0 / 132 - z * 691.0 / 32760)))));
  return reflected + r + __builtin_log(x) - 0.5 / x - (x < 1e17 ? series : 0.0);
}
inline double erfinv_(double y) {
  if (!(y > -1.0 && y < 1.0)) return y == 1.0 || y == -1.0 ? y * __builtin_inf() : __builtin_nan("");
  if (y == 0.0) return y;
  // a start from the logarithmic approximation of the inverse, then Newton steps on erf (Halley's correction)
  const double l = __builtin_log1p(-y * y), a = 4.3307467508 + l / 2;
  double x = __builtin_copysign(__builtin_sqrt(__builtin_sqrt(a * a - l / 0.147) - a), y);
  for (int i = 0; i < 4; ++i) {
    const double e = y > 0.5 || y < -0.5 ? (y > 0 ? (1.0 - y) - __builtin_erfc(x) : __builtin_erfc(-x) - (1.0 + y)) : __builtin_erf(x) - y;
    const double step = (y > 0.5 ? -e : e) / (1.12837916709551257390 * __builtin_exp(-x * x)) * (y > 0.5 ? -1.0 : 1.0);
    x -= step / (1.0 + x * step);
  }
  return x;
}
#define LW_BY_DOUBLE(name)                                                                     \
  LW float name(float x) { return (float)name##_(x); }                                         \
  LW double name(double x) { return name##_(x); }                                              \
  LW_VECTOR_1(name, float) LW_VECTOR_1(name, double)
LW_BY_DOUBLE(digamma) LW_BY_DOUBLE(erfinv)

// ------------------------------------------------------------------------------------------------------- any number

template <class T> constexpr bool is_floating = __is_same(T, float) || __is_same(T, double);
template <class T> LW T maximum(T a, T b) { return a > b || a != a ? a : b; }
template <class T> LW T minimum(T a, T b) { return a < b || a != a ? a : b; }
template <class T> LW vec<T> maximum(vec<T> a, vec<T> b) {
  if constexpr (is_floating<T>) return where((a > b) | (a != a), a, b);
  else return where(a > b, a, b);
}
template <class T> LW vec<T> minimum(vec<T> a, vec<T> b) {
  if constexpr (is_floating<T>) return where((a < b) | (a != a), a, b);
  else return where(a < b, a, b);
}
LW mask maximum(mask a, mask b) { return a | b; }
LW mask minimum(mask a, mask b) { return a & b; }
template <class T> LW T abs(T x) {
  if constexpr (is_floating<T>) return fabs(x);
  else return x < T(0) ? (T)-x : x;
}
template <class T> LW vec<T> abs(vec<T> x) {
  if constexpr (is_floating<T>) return fabs(x);
  else return where(x < vec<T>(T(0)), -x, x);
}
LW mask abs(mask x) { return x; }
template <class T> LW T sign(T x) { return (T)((x > T(0)) - (x < T(0))); }
template <class T> LW vec<T> sign(vec<T> x) { return convert<T>(x > vec<T>(T(0))) - convert<T>(x < vec<T>(T(0))); }
LW mask sign(mask x) { return x; }
LW bool invert(bool x) { return !x; }
LW mask invert(mask x) { return !x; }
template <class T> LW T invert(T x) { return (T)~x; }
template <class T> LW vec<T> invert(vec<T> x) { return ~x; }
// comparisons of masks, as of 0 and 1
LW mask operator==(mask a, mask b) { return !(a ^ b); }
LW mask operator!=(mask a, mask b) { return a ^ b; }
LW mask operator<(mask a, mask b) { return !a & b; }
LW mask operator<=(mask a, mask b) { return !a | b; }
LW mask operator>(mask a, mask b) { return a & !b; }
LW mask operator>=(mask a, mask b) { return a | !b; }
LW mask operator+(mask a, mask b) { return a | b; }
LW mask operator*(mask a, mask b) { return a & b; }
template <class T> LW T shift_left(T x, T n) {
  return n < T(0) || n >= T(8 * sizeof(T)) ? T(0) : (T)((uint64_t)x << n);
}
template <class T> LW T shift_right(T x, T n) {
  constexpr T top = T(8 * sizeof(T) - (T(-1) < T(0) ? 1 : 0));
  if (n < T(0) || n >= T(8 * sizeof(T))) return top < T(8 * sizeof(T)) ? (T)(x >> top) : T(0);
  return (T)(x >> n);
}
template <class T> LW vec<T> shift_left(vec<T> x, vec<T> n) { return generate<T>([&](int i) { return shift_left<T>(x[i], n[i]); }); }
template <class T> LW vec<T> shift_right(vec<T> x, vec<T> n) { return generate<T>([&](int i) { return shift_right<T>(x[i], n[i]); }); }

// ------------------------------------------------------------------------------------------------------- checks, division

enum failure { none, index_out_of_range, division_by_zero };
// what went wrong in a kernel, if anything; any one failure of several is as good as another
struct status { int64_t failure, index, size; };
inline __attribute__((noinline, cold)) void fail(status* s, failure what, int64_t index, int64_t size) {
  __atomic_store_n(&s->index, index, __ATOMIC_RELAXED);
  __atomic_store_n(&s->size, size, __ATOMIC_RELAXED);
  __atomic_store_n(&s->failure, (int64_t)what, __ATOMIC_RELAXED);
}
// an index wrapped when negative; 0, and a failure, when out of range
LW int64_t checked(int64_t i, int64_t size, status* s) {
  const int64_t wrapped = i < 0 ? i + size : i;
  if (__builtin_expect((uint64_t)wrapped >= (uint64_t)size, 0)) return fail(s, index_out_of_range, i, size), 0;
  return wrapped;
}
template <class A> LW vec<int64_t> checked(vec<int64_t> i, int64_t size, status* s, A active) {
  const vec<int64_t> n(size), zero((int64_t)0);
  const vec<int64_t> wrapped = where(i < zero, i + n, i);
  const mask bad = ((wrapped < zero) | (wrapped >= n)) & active;
  if (__builtin_expect(any(bad.m), 0))
    for (int k = 0; k < lanes; ++k)
      if (bad[k]) fail(s, index_out_of_range, i[k], size);
  return where(bad, zero, wrapped);
}
// C rounds to zero and traps on zero and on the least value over -1; these do not
template <class T> LW T truncdiv(T a, T b) {
  if constexpr (is_floating<T>) return trunc(a / b);
  else return b == T(-1) && T(-1) < T(0) ? (T)(0 - a) : b == T(0) ? T(0) : (T)(a / b);
}
template <class T> LW T modulo(T a, T b) {  // sign of the dividend
  if constexpr (is_floating<T>) return fmod(a, b);
  else return (b == T(-1) && T(-1) < T(0)) || b == T(0) ? T(0) : (T)(a % b);
}
template <class T> LW T remainder(T a, T b) {  // sign of the divisor
  const T r = modulo(a, b);
  return r != T(0) && (r < T(0)) != (b < T(0)) ? (T)(r + b) : r;
}
template <class T> LW T floordiv(T a, T b) {
  if constexpr (is_floating<T>) {
    if (b == T(0)) return a / b;
    const T r = fmod(a, b);
    T q = (a - r) / b;
    if (r != T(0) && (b < T(0)) != (r < T(0))) q -= T(1);
    if (q == T(0)) return copysign(T(0), a / b);
    const T whole = floor(q);
    return q - whole > T(0.5) ? whole + T(1) : whole;
  } else {
    const T q = truncdiv(a, b);
    return modulo(a, b) != T(0) && (a < T(0)) != (b < T(0)) ? (T)(q - 1) : q;
  }
}
template <class T> LW T divisor(T b, status* s) {
  if (__builtin_expect(b == T(0), 0)) fail(s, division_by_zero, 0, 0);
  return b;
}
template <class T, class A> LW vec<T> divisor(vec<T> b, status* s, A active) {
  if (__builtin_expect(any(((b == vec<T>(T(0))) & active).m), 0)) fail(s, division_by_zero, 0, 0);
  return b;
}
#define LW_DIVISION(name) \
  template <class T> LW vec<T> name(vec<T> a, vec<T> b) { return generate<T>([&](int i) { return name<T>(a[i], b[i]); }); }
LW_DIVISION(modulo) LW_DIVISION(remainder) LW_DIVISION(floordiv)
template <class T> LW vec<T> truncdiv(vec<T> a, vec<T> b) {
  if constexpr (is_floating<T>) return trunc(a / b);
  else return generate<T>([&](int i) { return truncdiv<T>(a[i], b[i]); });
}

// ------------------------------------------------------------------------------------------------------- reductions

template <class T, class Fn> LW T fold(vec<T> x, Fn f) {
  T t[lanes];
  __builtin_memcpy(t, &x, sizeof t);
  for (int n = lanes / 2; n; n /= 2)
    for (int i = 0; i < n; ++i) t[i] = f(t[i], t[i + n]);
  return t[0];
}
template <class T> LW T sum_lanes(vec<T> x) { return fold(x, [](T a, T b) { return (T)(a + b); }); }
template <class T> LW T product_lanes(vec<T> x) { return fold(x, [](T a, T b) { return (T)(a * b); }); }
template <class T> LW T xor_lanes(vec<T> x) { return fold(x, [](T a, T b) { return (T)(a ^ b); }); }
template <class T> LW T max_lanes(vec<T> x) { return fold(x, [](T a, T b) { return maximum(a, b); }); }
template <class T> LW T min_lanes(vec<T> x) { return fold(x, [](T a, T b) { return minimum(a, b); }); }
LW bool any_lane(mask x) { return any(x.m); }
LW bool every_lane(mask x) { return !any(~x.m); }
LW bool max_lanes(mask x) { return any_lane(x); }
LW bool min_lanes(mask x) { return every_lane(x); }

// a long sum in blocks of 256: rounding errors grow with the number of blocks, not of values
template <class V> struct cascade {
  V low = V(0), high = V(0);
  int count = 0;
  LW_LAMBDA void take(V x) {
    low = low + x;
    if (++count == 256) high = high + low, low = V(0), count = 0;
  }
  LW_LAMBDA V total() const { return high + low; }
};

// the extreme value so far and where it was first met; nan beats everything
template <class T, bool Greatest> LW bool beats(T a, T b) {
  return (Greatest ? a > b : a < b) || (a != a && b == b);
}
template <class T, bool Greatest> struct best {
  T value;
  int64_t index;
  LW_LAMBDA void take(T x, int64_t i) { if (beats<T, Greatest>(x, value)) value = x, index = i; }
  LW_LAMBDA void merge(best o) {
    if (beats<T, Greatest>(o.value, value) || (!beats<T, Greatest>(value, o.value) && o.index < index)) *this = o;
  }
};
template <class T, bool Greatest> struct best_lanes {
  vec<T> value;
  vec<int64_t> index;
  template <class A> LW_LAMBDA void take(vec<T> x, vec<int64_t> i, A active) {
    mask better = (Greatest ? x > value : x < value);
    if constexpr (is_floating<T>) better = better | ((x != x) & (value == value));
    better = better & active;
    value = where(better, x, value);
    index = where(better, i, index);
  }
  LW_LAMBDA best<T, Greatest> combine() const {
    best<T, Greatest> r{value[0], index[0]};
    for (int k = 1; k < lanes; ++k) r.merge({value[k], index[k]});
    return r;
  }
};
