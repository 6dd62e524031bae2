// 2^x and tanh of amx_kernel-inl.h, which includes this and says what must be defined before. No include guard, on
// purpose.
namespace bitflash::reference {
namespace {

constexpr float kMinusInfinity = -__builtin_inff();

// 2^x: 0 below -126, NaN for NaN. x = n + f with f in [0, 1); 2^f by a polynomial of least relative error with the
// constant term 1 (8.3e-8, Lawson's iteration; 1.5e-7 with its roundings in fp32).
AMX_INLINE F Exp2(F x) {
  const F f = Fraction(x);
  F p = MulAdd(Set(0x1.e974fcp-10f), f, Set(0x1.277854p-7f));
  p = MulAdd(p, f, Set(0x1.c91ce6p-5f));
  p = MulAdd(p, f, Set(0x1.ebdb56p-3f));
  p = MulAdd(p, f, Set(0x1.62e4bap-1f));
  p = MulAdd(p, f, Set(1.0f));
  return ScaleOrZero(p, x);
}

// As in cpu_exp-inl.h.
AMX_INLINE F Tanh(F x) {
  const F one = Set(1.0f), y = Abs(x);
  const F e = Exp2(Mul(y, Set(-0x1.715476p1f)));
  const F far = Div(Sub(one, e), Add(one, e));
  const F z = Mul(y, y);
  F p = MulAdd(Set(-0x1.75e1cep-8f), z, Set(0x1.52269cp-6f));
  p = MulAdd(p, z, Set(-0x1.b83c5ap-5f));
  p = MulAdd(p, z, Set(0x1.110726p-3f));
  p = MulAdd(p, z, Set(-0x1.555532p-2f));
  return CopySign(Select(Greater(Set(0.625f), y), MulAdd(Mul(y, z), p, y), far), x);
}

}  // namespace
}  // namespace bitflash::reference
