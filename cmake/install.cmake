# Install and export: find_package(bitflash) gives bitflash::data, bitflash::reference, bitflash::sim, bitflash::verify.
