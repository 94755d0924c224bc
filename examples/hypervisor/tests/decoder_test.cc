// What the decoder makes of bytes: the parts of an instruction, in each mode,
// with prefixes in any order.

#include "emulate/decoder.h"

#include <cstdint>
#include <initializer_list>
#include <span>
#include <vector>

#include "gtest/gtest.h"

namespace hypervisor {
namespace {

using File = RegisterOperand::File;

class DecoderTest : public testing::Test {
 protected:
  Instruction Decode(CpuMode mode, std::initializer_list<uint8_t> code) {
    const std::vector<uint8_t> bytes(code);
    return decoder_.Decode(mode, 0x1000, std::as_bytes(std::span(bytes)));
  }
  Decoder decoder_;
};

TEST_F(DecoderTest, MemoryOperandHasItsParts) {
  // MOV [RBX + R9 * 4 - 0x10], EAX
  const Instruction instruction =
      Decode(CpuMode::k64Bit, {0x42, 0x89, 0x44, 0x8b, 0xf0});
  EXPECT_EQ(instruction.operation, Operation::kMov);
  EXPECT_EQ(instruction.length, 5);
  EXPECT_EQ(instruction.operand_bytes, 4);
  EXPECT_EQ(instruction.address_bytes, 8);
  ASSERT_TRUE(instruction.operands[0].is_memory());
  const MemoryOperand& memory = instruction.operands[0].memory;
  EXPECT_EQ(memory.segment, SegmentName::kDs);
  EXPECT_EQ(memory.base, kRbx);
  EXPECT_EQ(memory.index, 9);
  EXPECT_EQ(memory.scale, 4);
  EXPECT_EQ(memory.displacement, ~uint64_t{0xf});
  EXPECT_TRUE(instruction.operands[1].Is(File::kGpr));
}

TEST_F(DecoderTest, StackRegistersImplyTheStackSegment) {
  EXPECT_EQ(
      Decode(CpuMode::k32Bit, {0x89, 0x45, 0x00}).operands[0].memory.segment,
      SegmentName::kSs);
  EXPECT_EQ(
      Decode(CpuMode::k16Bit, {0x89, 0x42, 0x00}).operands[0].memory.segment,
      SegmentName::kSs);
  EXPECT_EQ(Decode(CpuMode::k32Bit, {0x3e, 0x89, 0x45, 0x00})
                .operands[0]
                .memory.segment,
            SegmentName::kDs);
}

TEST_F(DecoderTest, In64BitModeOnlyFsAndGsAreNamed) {
  EXPECT_EQ(
      Decode(CpuMode::k64Bit, {0x26, 0x89, 0x03}).operands[0].memory.segment,
      SegmentName::kDs);
  EXPECT_EQ(
      Decode(CpuMode::k64Bit, {0x65, 0x89, 0x03}).operands[0].memory.segment,
      SegmentName::kGs);
}

TEST_F(DecoderTest, RipRelativeIsAbsolute) {
  const Instruction instruction =
      Decode(CpuMode::k64Bit, {0x8b, 0x05, 0x20, 0, 0, 0});
  EXPECT_EQ(instruction.operands[1].memory.base, std::nullopt);
  EXPECT_EQ(instruction.operands[1].memory.displacement, 0x1026u);
}

TEST_F(DecoderTest, SizesFollowModeAndPrefixes) {
  EXPECT_EQ(Decode(CpuMode::k16Bit, {0x89, 0x07}).operand_bytes, 2);
  EXPECT_EQ(Decode(CpuMode::k16Bit, {0x66, 0x89, 0x07}).operand_bytes, 4);
  EXPECT_EQ(Decode(CpuMode::k32Bit, {0x67, 0x89, 0x07}).address_bytes, 2);
  EXPECT_EQ(Decode(CpuMode::k64Bit, {0x48, 0x89, 0x07}).operand_bytes, 8);
  EXPECT_EQ(Decode(CpuMode::k64Bit, {0x50}).operand_bytes, 8);
  EXPECT_EQ(Decode(CpuMode::k64Bit, {0x66, 0x50}).operand_bytes, 2);
  EXPECT_EQ(Decode(CpuMode::k64Bit, {0x88, 0x07}).operand_bytes, 1);
}

// STOS and INS; a repeat prefix on either side of the one for the size.
TEST_F(DecoderTest, ElementsOfStringsFollowPrefixesInAnyOrder) {
  EXPECT_EQ(Decode(CpuMode::k32Bit, {0x66, 0xf3, 0xab}).operand_bytes, 2);
  EXPECT_EQ(Decode(CpuMode::k32Bit, {0xf3, 0x66, 0xab}).operand_bytes, 2);
  EXPECT_EQ(Decode(CpuMode::k16Bit, {0x66, 0xf3, 0xab}).operand_bytes, 4);
  EXPECT_EQ(Decode(CpuMode::k64Bit, {0xf3, 0x48, 0xab}).operand_bytes, 8);
  EXPECT_EQ(Decode(CpuMode::k32Bit, {0x66, 0xf3, 0xaa}).operand_bytes, 1);
  EXPECT_EQ(Decode(CpuMode::k64Bit, {0xf3, 0x48, 0x6d}).operand_bytes, 4);
}

TEST_F(DecoderTest, RexCountsOnlyRightBeforeTheOpcode) {
  EXPECT_EQ(Decode(CpuMode::k64Bit, {0x48, 0x66, 0x89, 0x07}).operand_bytes, 2);
  EXPECT_EQ(Decode(CpuMode::k64Bit, {0x66, 0x48, 0x89, 0x07}).operand_bytes, 8);
}

TEST_F(DecoderTest, HighBytesAreRegistersWithoutRex) {
  EXPECT_TRUE(
      Decode(CpuMode::k64Bit, {0x88, 0x27}).operands[1].Is(File::kHighByte));
  EXPECT_TRUE(
      Decode(CpuMode::k64Bit, {0x40, 0x88, 0x27}).operands[1].Is(File::kGpr));
}

TEST_F(DecoderTest, LockIsToldOfWhereItMustNotBe) {
  const Instruction instruction = Decode(CpuMode::k32Bit, {0xf0, 0x89, 0x03});
  EXPECT_EQ(instruction.operation, Operation::kMov);
  EXPECT_TRUE(instruction.prefixes.lock);
  EXPECT_EQ(instruction.length, 3);
}

// The prefix of an SSE opcode, apart from it or in 16-bit code, is lost on
// Capstone.
TEST_F(DecoderTest, PrefixOfAnXmmMoveCountsWhereverItStands) {
  for (CpuMode mode : {CpuMode::k16Bit, CpuMode::k32Bit, CpuMode::k64Bit}) {
    const Instruction near = Decode(mode, {0x67, 0xf3, 0x0f, 0x11, 0x07});
    const Instruction far = Decode(mode, {0xf3, 0x67, 0x0f, 0x11, 0x07});
    for (const Instruction& instruction : {near, far}) {
      EXPECT_EQ(instruction.operation, Operation::kMovXmm);
      EXPECT_EQ(instruction.operand_bytes, 4);
      EXPECT_EQ(instruction.length, 5);
    }
  }
}

TEST_F(DecoderTest, MovesOfMmxAreKnownAndThoseOfAvxAreNot) {
  const Instruction mmx = Decode(CpuMode::k64Bit, {0x0f, 0x7f, 0x0f});
  EXPECT_EQ(mmx.operation, Operation::kMovMmx);
  EXPECT_TRUE(mmx.operands[1].Is(File::kMmx));
  EXPECT_EQ(mmx.operands[1].reg.number, 1);
  const Instruction avx = Decode(CpuMode::k64Bit, {0xc5, 0xf8, 0x11, 0x07});
  EXPECT_EQ(avx.operation, Operation::kUnknown);
  EXPECT_EQ(avx.length, 4);
}

TEST_F(DecoderTest, IncompleteInstructionHasNoLength) {
  EXPECT_EQ(Decode(CpuMode::k64Bit, {0xc7, 0x03, 1, 2, 3}).length, 0);
  EXPECT_EQ(Decode(CpuMode::k64Bit, {0x66}).length, 0);
  EXPECT_EQ(Decode(CpuMode::k64Bit, {}).length, 0);
}

TEST_F(DecoderTest, InstructionOfMoreThan15BytesIsNone) {
  EXPECT_EQ(
      Decode(CpuMode::k64Bit, {0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66,
                               0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x89, 0x03})
          .length,
      0);
}

TEST_F(DecoderTest, WhatWasDecodedIsFoundAgain) {
  const Instruction first = Decode(CpuMode::k64Bit, {0x89, 0x03});
  const Instruction again = Decode(CpuMode::k64Bit, {0x89, 0x03});
  EXPECT_EQ(decoder_.decoded(), 1u);
  EXPECT_EQ(again.operation, first.operation);
  EXPECT_EQ(again.length, first.length);
}

// Other bytes in its place, another mode, fewer bytes of it: each is another
// one.
TEST_F(DecoderTest, WhatChangedIsDecodedAnew) {
  EXPECT_EQ(Decode(CpuMode::k64Bit, {0x89, 0x03}).operation, Operation::kMov);
  EXPECT_EQ(Decode(CpuMode::k64Bit, {0x01, 0x03}).operation, Operation::kAdd);
  EXPECT_EQ(Decode(CpuMode::k16Bit, {0x01, 0x03}).operand_bytes, 2);
  EXPECT_EQ(Decode(CpuMode::k16Bit, {0x01}).length, 0);
  EXPECT_EQ(decoder_.decoded(), 4u);
}

TEST_F(DecoderTest, DescribesBytesAndText) {
  EXPECT_EQ(decoder_.Describe(Decode(CpuMode::k32Bit, {0x89, 0x03})),
            "89 03 mov dword ptr [ebx], eax");
}

}  // namespace
}  // namespace hypervisor
