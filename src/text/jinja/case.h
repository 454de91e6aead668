#pragma once
// What Python's str methods know about characters.
#include <string>

namespace cajal::jinja {

bool is_printable(char32_t c);  // str.isprintable: repr() escapes all others
bool is_space(char32_t c);      // str.isspace, what strip() removes
bool is_alpha(char32_t c);
bool is_decimal(char32_t c);    // what int() reads as a digit
int decimal_value(char32_t c);  // of a decimal
bool is_numeric(char32_t c);    // decimals, fractions, superscripts and the like
bool is_lower(char32_t c);      // has case, and it is that
bool is_upper(char32_t c);
bool is_title(char32_t c);
inline bool is_cased(char32_t c) { return is_lower(c) || is_upper(c) || is_title(c); }
bool is_identifier_start(char32_t c);
bool is_identifier_part(char32_t c);

// May give more than one character ("ß" to "SS").
void append_upper(std::string& out, char32_t c);
void append_lower(std::string& out, char32_t c);
void append_title(std::string& out, char32_t c);

}  // namespace cajal::jinja
