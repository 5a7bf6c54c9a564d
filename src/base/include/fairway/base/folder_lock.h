#pragma once
#include <filesystem>

namespace fairway::base {

/// Keeps a second process out of a folder. Ends with the process, however that ends.
class FolderLock {
 public:
  /// Throws an input error when another process holds the folder. File systems without locks: no protection.
  explicit FolderLock(const std::filesystem::path& folder);
  ~FolderLock();
  FolderLock(const FolderLock&) = delete;
  FolderLock& operator=(const FolderLock&) = delete;

 private:
  std::filesystem::path path_;  ///< FOLDER/.lock, there while it is held
  int descriptor_ = -1;
};

}  // namespace fairway::base
