#pragma once
// How far apart arrays are. All of it ends as NaN as soon as one number is NaN, so that no bound holds then:
// std::max and `<` alone let a NaN pass. (GoogleTest's own comparisons fail on NaN.)

#include <cmath>
#include <cstddef>
#include <stdexcept>

namespace fairway::testing {

/// The largest of the numbers it has seen (0: none), NaN after the first NaN.
class Largest {
 public:
  void see(double value) {
    if (value > value_ || std::isnan(value)) value_ = value;
  }
  double value() const { return value_; }

 private:
  double value_ = 0;
};

/// max |a - b| over arrays of the same size.
template <class A, class B>
double max_difference(const A& a, const B& b) {
  if (a.size() != b.size()) throw std::runtime_error("arrays of different sizes are compared");
  Largest difference;
  for (std::size_t i = 0; i < b.size(); ++i)
    difference.see(std::abs(static_cast<double>(a[i]) - static_cast<double>(b[i])));
  return difference.value();
}

/// max |a|.
template <class A>
double max_magnitude(const A& a) {
  Largest largest;
  for (const auto& x : a) largest.see(std::abs(static_cast<double>(x)));
  return largest.value();
}

/// max |a - b| / max |b|: the measure of tests/golden/README.md; of zeros only, max |a|. NaN where b is not
/// finite.
template <class A, class B>
double max_relative(const A& a, const B& b) {
  const double difference = max_difference(a, b), scale = max_magnitude(b);
  return scale > 0 ? difference / scale : difference;
}

/// |a - b| / |b| of the whole arrays; of zeros only, |a|. NaN where b is not finite.
template <class A, class B>
double norm_relative(const A& a, const B& b) {
  if (a.size() != b.size()) throw std::runtime_error("arrays of different sizes are compared");
  double difference = 0, scale = 0;
  for (std::size_t i = 0; i < b.size(); ++i) {
    const double x = static_cast<double>(a[i]), y = static_cast<double>(b[i]);
    difference += (x - y) * (x - y);
    scale += y * y;
  }
  return std::sqrt(scale > 0 ? difference / scale : difference);
}

}  // namespace fairway::testing
