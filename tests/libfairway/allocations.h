#pragma once

namespace fairway::test {

/// Calls of operator new so far in this program, those of the shared library among them. Building a program
/// makes thousands of small objects.
int allocations();

}  // namespace fairway::test
