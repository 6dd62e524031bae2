// What a kernel will move between HBM and L2, launch by launch: the question that this folder answers.
#ifndef BITFLASH_SIM_L2_PREDICT_H_
#define BITFLASH_SIM_L2_PREDICT_H_
