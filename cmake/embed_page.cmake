# cmake -DFOLDER=src/server/page -DOUTPUT=chat_page.cpp -P embed_page.cmake: the page's parts as one HTML file inside a
# C++ string, with the Content-Security-Policy that lets exactly its own style and script run.
file(READ ${FOLDER}/index.html html)
file(READ ${FOLDER}/style.css style)
set(script "")
foreach(part store api markdown chat)
  file(READ ${FOLDER}/${part}.js text)
  string(APPEND script "${text}")
endforeach()

# "'sha256-<base64>'" of a text, as the policy spells it.
function(policy_hash out text)
  string(SHA256 hex "${text}")
  set(alphabet ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/)
  set(result)
  string(APPEND hex "00")  # 33 bytes: eleven groups of three; the last character is padding
  foreach(group RANGE 0 10)
    math(EXPR at "${group} * 6")
    string(SUBSTRING ${hex} ${at} 6 digits)
    foreach(shift 18 12 6 0)
      math(EXPR index "(0x${digits} >> ${shift}) & 63")
      string(SUBSTRING ${alphabet} ${index} 1 letter)
      string(APPEND result ${letter})
    endforeach()
  endforeach()
  string(SUBSTRING ${result} 0 43 result)
  set(${out} "'sha256-${result}='" PARENT_SCOPE)
endfunction()

policy_hash(style_hash "${style}")
policy_hash(script_hash "${script}")
string(REPLACE "@STYLE@" "${style}" html "${html}")
string(REPLACE "@SCRIPT@" "${script}" html "${html}")
set(policy "default-src 'none'; style-src ${style_hash}; script-src ${script_hash}; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
file(WRITE ${OUTPUT} "// Made from ${FOLDER} by cmake/embed_page.cmake.
#include \"server/chat_page.h\"

namespace cajal {

std::string_view chat_page() { return R\"__page__(${html})__page__\"; }
std::string_view chat_page_policy() { return R\"__page__(${policy})__page__\"; }

}  // namespace cajal
")
