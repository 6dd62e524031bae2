// The attention of every layer of a model, from the keys of its configuration.
#ifndef BITFLASH_DATA_LAYER_GROUPS_H_
#define BITFLASH_DATA_LAYER_GROUPS_H_

#include <vector>

#include "data/config_keys.h"
#include "data/model_config.h"
#include "data/model_families.h"

namespace bitflash::data {

// One group for each shape of attention, in the order in which they first occur; their layers add up to the model's.
// Throws InputError (a key) or UndecidedError (a type of layer that is not modelled).
std::vector<LayerGroup> LayerGroups(ConfigKeys& keys, const Family& family);

}  // namespace bitflash::data

#endif  // BITFLASH_DATA_LAYER_GROUPS_H_
