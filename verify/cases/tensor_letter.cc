#include "verify/cases/tensor_letter.h"

namespace bitflash::verify {

using sim::TensorId;

std::string_view Letter(sim::TensorId tensor) {
  switch (tensor) {
    case TensorId::kQ:
      return "Q";
    case TensorId::kK:
      return "K";
    case TensorId::kV:
      return "V";
    case TensorId::kS:
      return "S";
    case TensorId::kP:
      return "P";
    case TensorId::kO:
      return "O";
    case TensorId::kLse:
      return "LSE";
    case TensorId::kM:
      return "m";
    case TensorId::kL:
      return "l";
    case TensorId::kOPartial:
      return "O parts";
    case TensorId::kBlockTable:
      return "pages";
  }
  return "";
}

}  // namespace bitflash::verify
