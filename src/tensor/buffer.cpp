#include "fairway/tensor/buffer.h"

#include "fairway/base/text.h"
#include "fairway/tensor/cuda.h"

#include <sys/mman.h>

#include <cstdlib>
#include <cstring>
#include <utility>

namespace fairway::tensor {
namespace {

constexpr std::size_t alignment = 256;  // one cache line of every device, and CUDA's own alignment
constexpr std::size_t huge_page = std::size_t{2} << 20;

constexpr std::size_t round_up(std::size_t value, std::size_t unit) {
  return (value + unit - 1) / unit * unit;
}

/// Memory maps are used from here on: the kernel hands out zeroed pages when they are first touched, so that
/// a large arena costs nothing at the start and its pages come from all threads.
constexpr std::size_t mapped_from = 2 * huge_page;

std::byte* map_zeroed(std::size_t bytes) {
  const auto size = round_up(bytes, huge_page);
  void* data = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (data == MAP_FAILED) return nullptr;
  ::madvise(data, size, MADV_HUGEPAGE);  // advice only: a refusal costs speed, not results
  return static_cast<std::byte*>(data);
}

std::byte* host_allocate(std::size_t bytes) {
  std::byte* data = nullptr;
  if (bytes <= SIZE_MAX - huge_page) {
    if (bytes >= mapped_from) {
      data = map_zeroed(bytes);
    } else if (void* block = std::aligned_alloc(alignment, round_up(bytes, alignment))) {
      std::memset(block, 0, bytes);
      data = static_cast<std::byte*>(block);
    }
  }
  if (!data) base::fail("out of memory: {} asked for", base::human_bytes(bytes));
  return data;
}

void host_release(std::byte* data, std::size_t bytes) noexcept {
  if (bytes >= mapped_from)
    ::munmap(data, round_up(bytes, huge_page));
  else
    std::free(data);
}

}  // namespace

Buffer::Buffer(Device device, std::size_t bytes) : device_(device), bytes_(bytes) {
  if (bytes == 0) return;
  data_ = device.is_cuda() ? cuda_allocate(device.index, bytes) : host_allocate(bytes);
}

Buffer::~Buffer() {
  if (!data_) return;
  if (device_.is_cuda()) {
    cuda_release(device_.index, data_);
  } else {
    host_release(data_, bytes_);
  }
}

Buffer::Buffer(Buffer&& other) noexcept
    : device_(other.device_),
      data_(std::exchange(other.data_, nullptr)),
      bytes_(std::exchange(other.bytes_, 0)) {}

Buffer& Buffer::operator=(Buffer&& other) noexcept {
  std::swap(device_, other.device_);
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

View Buffer::view(std::size_t offset, Meta meta) const {
  const std::size_t bytes = meta.bytes();
  base::check(offset <= bytes_ && bytes <= bytes_ - offset, "view of {} bytes at {} in a buffer of {}", bytes,
              offset, bytes_);
  base::check(offset % size_of(meta.dtype) == 0, "view of {} at the unaligned offset {}",
              dtype_name(meta.dtype), offset);
  return {data_ ? data_ + offset : nullptr, meta};
}

}  // namespace fairway::tensor
