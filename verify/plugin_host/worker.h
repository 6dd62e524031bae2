// The process that loads the plug-in and calls it. Part of the host.
#ifndef BITFLASH_VERIFY_PLUGIN_HOST_WORKER_H_
#define BITFLASH_VERIFY_PLUGIN_HOST_WORKER_H_

#include "verify/plugin_host/wire.h"

namespace bitflash::verify {

// What the supervisor still reads when the worker is gone.
struct LastWords {
  volatile wire::Stage stage;
  wire::Fault fault;
};

// Loads `plugin`, then serves the requests on wire::kSocket until it is told to shut down or nobody is there. Returns
// the exit status.
int Work(const char* plugin, const char* json, LastWords* last_words);

}  // namespace bitflash::verify

#endif  // BITFLASH_VERIFY_PLUGIN_HOST_WORKER_H_
