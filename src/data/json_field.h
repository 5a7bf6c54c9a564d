#pragma once
// One field of a JSON object (RFC 8259) without building the rest of it: the values of other fields must be
// JSON, but need not fit a number's or a text's type, and nest as deep as they like.

#include <cstddef>
#include <string>
#include <string_view>

namespace fairway::data {

struct JsonField {
  enum class Kind {
    text,       // `text` is the field's
    missing,    // an object without the field
    no_text,    // the field holds something else
    no_object,  // the whole is a list or a single value
    not_utf8,   // where it matters: in the field, or where the grammar breaks
    bad,        // not JSON, or a field that no text can hold; `text` says why
  };
  Kind kind = Kind::missing;
  std::string text;
  std::size_t at = 0;  // bad, not_utf8: the byte
};

// Of a field that is there twice the last one counts, as most programs have it.
JsonField json_field(std::string_view json, std::string_view field);

}  // namespace fairway::data
