#include "fairway/tensor/buffer.h"

#include "fairway/base/error.h"
#include "fairway/tensor/cuda.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>
#include <vector>

namespace fairway::tensor {
namespace {

using base::Error;
using testing::HasSubstr;

TEST(Shape, ExtentsAndProducts) {
  const Shape shape{2, 2048, 512};
  EXPECT_EQ(shape.rank(), 3);
  EXPECT_EQ(shape[0], 2);
  EXPECT_EQ(shape[-1], 512);
  EXPECT_EQ(shape[-3], 2);
  EXPECT_EQ(shape.elements(), 2 * 2048 * 512);
  EXPECT_EQ(shape.rows(), 4096);
  EXPECT_EQ(shape.columns(), 512);
  EXPECT_EQ(shape.str(), "[2, 2048, 512]");
  EXPECT_EQ(shape.with(-1, 7), (Shape{2, 2048, 7}));
  EXPECT_NE(shape, shape.with(0, 3));
  EXPECT_EQ(shape.with(0, 0).elements(), 0);
}

TEST(Shape, RankZeroIsOneElement) {
  const Shape shape;
  EXPECT_EQ(shape.elements(), 1);
  EXPECT_EQ(shape.rows(), 1);
  EXPECT_EQ(shape.columns(), 1);
  EXPECT_EQ(shape.str(), "[]");
  EXPECT_THROW(shape[0], Error);
  EXPECT_NE(shape, Shape{1});
}

TEST(Shape, RefusesNonsense) {
  EXPECT_THROW((Shape{1, 1, 1, 1, 1, 1, 1}), Error);
  EXPECT_THROW((Shape{2, -1}), Error);
  EXPECT_THROW((Shape{std::int64_t{1} << 40, std::int64_t{1} << 40}), Error);
  EXPECT_THROW((Shape{2, 3}[2]), Error);
  EXPECT_THROW((Shape{2, 3}[-3]), Error);
  EXPECT_THROW((Shape{2, 3}.with(2, 1)), Error);
  EXPECT_THROW((Shape{2, 3}.with(0, -1)), Error);
}

TEST(Device, NamesRoundTrip) {
  EXPECT_EQ(Device{}.str(), "cpu");
  EXPECT_EQ(parse_device("cpu"), Device{});
  EXPECT_EQ(parse_device("cuda"), (Device{DeviceKind::cuda, 0}));
  EXPECT_EQ(parse_device("cuda:3"), (Device{DeviceKind::cuda, 3}));
  EXPECT_EQ((Device{DeviceKind::cuda, 3}).str(), "cuda:3");
  for (const auto* bad : {"", "gpu", "cuda:", "cuda:-1", "cuda:1x", "cuda:99999999999", "CPU"})
    EXPECT_EQ(parse_device(bad), std::nullopt) << bad;
}

TEST(Buffer, IsAlignedAndZero) {
  for (const std::size_t bytes :
       {std::size_t{1}, std::size_t{255}, std::size_t{4096 + 1}, (std::size_t{5} << 20) + 3}) {
    // A dirty block of the same size before it, so that zeros are no accident of fresh pages.
    {
      const Buffer dirty({}, bytes);
      std::fill(dirty.data(), dirty.data() + bytes, std::byte{0xAB});
    }
    const Buffer buffer({}, bytes);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(buffer.data()) % 256, 0u);
    EXPECT_EQ(buffer.bytes(), bytes);
    EXPECT_TRUE(
        std::all_of(buffer.data(), buffer.data() + bytes, [](std::byte b) { return b == std::byte{0}; }));
  }
  EXPECT_EQ(Buffer({}, 0).data(), nullptr);
}

TEST(Buffer, Moves) {
  Buffer a({}, 100), b;
  const auto* data = a.data();
  b = std::move(a);
  EXPECT_EQ(b.data(), data);
  Buffer c(std::move(b));
  EXPECT_EQ(c.data(), data);
  EXPECT_EQ(b.data(), nullptr);  // NOLINT: the state after a move is promised
  EXPECT_EQ(b.bytes(), 0u);
}

TEST(Buffer, TooMuchMemoryNamesTheSize) {
  for (const std::size_t bytes : {std::size_t{1} << 60, SIZE_MAX}) {
    try {
      const Buffer buffer({}, bytes);
      FAIL();
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), base::ErrorKind::failure);
      EXPECT_THAT(error.what(), HasSubstr("EiB"));
    }
  }
}

TEST(Buffer, ViewsStayInside) {
  const Buffer buffer({}, 64);
  const View view = buffer.view(16, {DType::f32, {3, 4}});
  EXPECT_EQ(static_cast<std::byte*>(view.data), buffer.data() + 16);
  EXPECT_EQ(view.span<float>().size(), 12u);
  EXPECT_THROW(buffer.view(17, {DType::u8, {48}}), Error);
  EXPECT_THROW(buffer.view(65, {DType::u8, {0}}), Error);
  EXPECT_THROW(buffer.view(2, {DType::f32, {1}}), Error);
  EXPECT_THROW(view.span<double>(), Error);
  EXPECT_NO_THROW(view.span<const float>());
}

TEST(View, OfNothingAndOfAnArray) {
  EXPECT_FALSE(View{});
  EXPECT_TRUE(View{}.span<float>().empty());
  const Array array({DType::i32, {5}});
  array.span<std::int32_t>()[4] = 9;
  EXPECT_EQ(array.view().as<std::int32_t>()[4], 9);
}

// Holds on machines with and without the toolkit, the driver and the GPU.
TEST(Cuda, SaysWhatIsThere) {
  const auto devices = cuda_devices();
  EXPECT_EQ(devices.empty(), !cuda_unavailable_reason().empty()) << cuda_unavailable_reason();
  if (!cuda_compiled_in()) {
    EXPECT_EQ(cuda_unavailable_reason(), "not compiled in");
    EXPECT_EQ(cuda_versions().runtime, 0);
  } else {
    EXPECT_GE(cuda_versions().runtime, 12000);
  }
  if (devices.empty()) {
    EXPECT_THROW(Buffer({DeviceKind::cuda, 0}, 100), Error);
    EXPECT_THROW(synchronize({DeviceKind::cuda, 0}), Error);
    return;
  }
  EXPECT_FALSE(devices[0].name.empty());
  EXPECT_GT(devices[0].memory_bytes, std::uint64_t{1} << 30);
  EXPECT_GE(devices[0].capability_major, 7);
}

TEST(Cuda, CopiesThereAndBack) {
  if (cuda_devices().empty()) GTEST_SKIP() << cuda_unavailable_reason();
  const Device gpu{DeviceKind::cuda, 0};
  std::vector<std::uint32_t> out(100003), back(out.size(), 1);
  const std::size_t bytes = out.size() * 4;
  const Buffer a(gpu, bytes), b(gpu, bytes);
  copy_bytes({}, back.data(), gpu, a.data(), bytes);
  EXPECT_EQ(back, out);  // fresh device memory is zero
  std::iota(out.begin(), out.end(), 5u);
  copy_bytes(gpu, a.data(), {}, out.data(), bytes);
  copy_bytes(gpu, b.data(), gpu, a.data(), bytes);
  copy_bytes({}, back.data(), gpu, b.data(), bytes);
  EXPECT_EQ(back, out);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(a.data()) % 256, 0u);
  EXPECT_THROW(Buffer(gpu, std::size_t{1} << 50), Error);
  synchronize(gpu);
}

TEST(Copy, OnTheHost) {
  const std::vector<int> from = {1, 2, 3};
  std::vector<int> to(3);
  copy_bytes({}, to.data(), {}, from.data(), 12);
  EXPECT_EQ(to, from);
  EXPECT_NO_THROW(copy_bytes({}, nullptr, {}, nullptr, 0));
  EXPECT_NO_THROW(synchronize({}));
}

TEST(CudaDevices, AGpuThatIsNotThereIsBadInput) {
  try {
    cuda_device({DeviceKind::cuda, 1000});
    FAIL() << "found";
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), base::ErrorKind::input);
    EXPECT_NE(std::string(e.what()).find("cuda:1000"), std::string::npos) << e.what();
  }
}

TEST(CudaDevices, OtherGpusAreNamedWithWhatTheyLack) {
  CudaDeviceInfo gpu;
  gpu.name = "NVIDIA L4";
  gpu.capability_major = 8, gpu.capability_minor = 9;
  EXPECT_EQ(gpu.problem(),
            "NVIDIA L4 has compute capability 8.9, kernels are compiled for 9.0 (Hopper) alone");
  gpu.capability_major = 10, gpu.capability_minor = 0;  // sm_90a code runs on no later GPU either
  EXPECT_NE(gpu.problem(), "");
  gpu.capability_major = 9;
  EXPECT_EQ(gpu.problem(), "");
}

}  // namespace
}  // namespace fairway::tensor
