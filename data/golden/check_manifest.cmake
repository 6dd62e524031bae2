# Fails unless the manifests in this folder describe exactly the recordings beside them, byte for byte, and the scripts
# that made them.
set(folder ${CMAKE_CURRENT_LIST_DIR})

function(check_sha256 name expected)
  if(NOT EXISTS ${folder}/${name})
    message(SEND_ERROR "${name}: named in a manifest, but there is no such file")
    return()
  endif()
  file(SHA256 ${folder}/${name} actual)
  if(NOT actual STREQUAL expected)
    message(SEND_ERROR "${name}: has SHA-256 ${actual}, expected ${expected} as in its manifest: record again")
  endif()
endfunction()

# Checks the files that <subfolder>manifest.json lists, and its scripts, if any, which lie in this folder; appends what
# it covers to `listed`.
function(check_manifest subfolder)
  file(READ ${folder}/${subfolder}manifest.json manifest)
  list(APPEND listed ${subfolder}manifest.json)
  string(JSON count LENGTH "${manifest}" files)
  math(EXPR last "${count} - 1")
  foreach(i RANGE ${last})
    string(JSON name MEMBER "${manifest}" files ${i})
    string(JSON expected GET "${manifest}" files ${name} sha256)
    check_sha256(${subfolder}${name} ${expected})
    list(APPEND listed ${subfolder}${name})
  endforeach()
  set(listed ${listed} PARENT_SCOPE)
  string(JSON count ERROR_VARIABLE none LENGTH "${manifest}" scripts)
  if(none)
    return()
  endif()
  math(EXPR last "${count} - 1")
  foreach(i RANGE ${last})
    string(JSON name MEMBER "${manifest}" scripts ${i})
    string(JSON expected GET "${manifest}" scripts ${name})
    check_sha256(${name} ${expected})
  endforeach()
endfunction()

# What gpu/probes/sfu_probe.cu printed names its own machine.
set(listed sfu_hashes.json)
check_manifest("")
check_manifest(after/)  # what record_after.py recorded once the code was finished
# What record_own.py recorded of the CUDA kernels here. The hashes of their sources are there to be looked up, not
# checked: a comment is no reason to record again.
check_manifest(own/)
check_manifest(bank_conflicts/)  # what record_bank_conflicts.py recorded
check_manifest(l2/)  # what record_l2.py counted between DRAM, L2 and the SMs
check_manifest(time/)  # what record_time.py timed of them, and gpu/bench/fa2_tiles.cu
check_manifest(probes/)  # what gpu/probes/run_all.py --record kept of every GPU; its sources likewise

# Nsight's counters have manifests of their own.
foreach(counters IN ITEMS h200_nsight_l2_to_sm.json h100_nsight_own.json h100_nsight_all.json
                            h100_nsight_standard.json)
  file(READ ${folder}/${counters} nsight)
  string(JSON name GET "${nsight}" file)
  string(JSON expected GET "${nsight}" sha256)
  check_sha256(${name} ${expected})
  list(APPEND listed ${counters})
endforeach()

file(GLOB recordings RELATIVE ${folder} ${folder}/*.json ${folder}/*.npz ${folder}/after/* ${folder}/bank_conflicts/*
  ${folder}/l2/* ${folder}/own/* ${folder}/probes/* ${folder}/time/*)
list(REMOVE_ITEM recordings ${listed})
if(recordings)
  message(SEND_ERROR "in no manifest: ${recordings}")
endif()
