// strip_code LIST ROOT OUT: writes the files that LIST names (a line each, relative to ROOT) into OUT,
// stripped.
#include "strip_code.h"

#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>

namespace fs = std::filesystem;

int main(int argc, char** argv) {
  if (argc != 4) {
    std::cerr << "usage: strip_code LIST ROOT OUT\n";
    return 2;
  }
  const fs::path root = argv[2], out = argv[3];
  std::ifstream list(argv[1]);
  for (std::string name; std::getline(list, name);) {
    if (name.empty()) continue;
    std::ifstream in(root / name, std::ios::binary);
    const std::string source{std::istreambuf_iterator<char>(in), {}};
    fs::create_directories((out / name).parent_path());
    std::ofstream file(out / name, std::ios::binary);
    file << fairway::build::strip_code(source);
    if (!in || !file.flush()) {
      std::cerr << "strip_code: cannot read or write " << name << "\n";
      return 1;
    }
  }
  return 0;
}
