// Of serve.
#include "cli/flag_tables.h"

#include <array>

#include "cli/usage_error.h"
#include "cli/values.h"

namespace cajal::cli {
namespace {

constexpr std::int64_t kLongest = std::int64_t{1} << 30;  // of any sequence

constexpr auto kFlags = std::to_array<Flag>({
    {"host", "", "HOST", kServe | kBenchServe, Group::serving,
     "The address to listen on, or where the server is that is measured. Default: 127.0.0.1, this machine only.",
     [](Options& o, const Given& g) { o.serve.host = g.text; }},
    {"port", "", "PORT", kServe | kBenchServe, Group::serving, "The port; 0: one that is free. Default: 8000.",
     [](Options& o, const Given& g) { o.serve.port = static_cast<std::uint16_t>(integer(g, 0, 65535)); }},
    {"api-key", "", "KEY", kServe, Group::serving, "A key that requests must have; may be given several times.",
     [](Options& o, const Given& g) {
       if (g.text.empty()) misuse(g.label, " is empty, expected a key");
       o.serve.api_keys.push_back(g.text);
     },
     OneOf::none, true},
    {"api-key-file", "", "FILE", kServe, Group::serving, "A file with such keys, one a line.",
     [](Options& o, const Given& g) { o.serve.api_key_file = g.text; }},
    {"ssl-certfile", "", "FILE", kServe, Group::serving,
     "Answer over HTTPS with the certificate of FILE, in PEM form, and those that lead to an authority's.",
     [](Options& o, const Given& g) { o.serve.ssl_certfile = g.text; }},
    {"ssl-keyfile", "", "FILE", kServe, Group::serving, "Its private key. Default: in the same file.",
     [](Options& o, const Given& g) { o.serve.ssl_keyfile = g.text; }},
    {"ssl-keyfile-password", "", "WORD", kServe, Group::serving,
     "The password of that key. Better in the environment or in the file of --config: others see a command line.",
     [](Options& o, const Given& g) { o.serve.ssl_keyfile_password = g.text; }},
    {"ssl-ca-certs", "", "FILE", kServe | kBenchServe, Group::serving,
     "Certificates of authorities, in PEM form, whose clients may ask, or whose servers are measured.",
     [](Options& o, const Given& g) { o.serve.ssl_ca_certs = g.text; }},
    {"ssl-cert-reqs", "", "N", kServe, Group::serving,
     "0: clients need no certificate, 1: one that they have is checked, 2: they need one. Default: 0.",
     [](Options& o, const Given& g) { o.serve.ssl_cert_reqs = small_integer(g, 0, 2); }},
    {"served-model-name", "", "NAME", kServe | kBenchServe, Group::serving,
     "What requests call the model; may be given several times. Default: MODEL.",
     [](Options& o, const Given& g) { o.serve.served_model_names.push_back(g.text); }, OneOf::none, true},
    {"allowed-origins", "", "ORIGIN", kServe, Group::serving,
     "A web origin whose pages may use the server, or *; may be given several times.",
     [](Options& o, const Given& g) { o.serve.allowed_origins.push_back(g.text); }, OneOf::none, true},
    {"max-num-waiting", "", "N", kServe, Group::serving, "Requests that wait; further ones get 429. Default: 1024.",
     [](Options& o, const Given& g) { o.serve.max_num_waiting = integer(g, 1, kLongest); }},
    {"max-request-bytes", "", "N", kServe, Group::serving, "Of the body of a request. Default: 16777216.",
     [](Options& o, const Given& g) {
       o.serve.max_request_bytes = static_cast<std::uint64_t>(integer(g, 1, kLongest));
     }},
    {"request-timeout-ms", "", "MS", kServe, Group::serving, "Time for an answer. Default: as long as it takes.",
     [](Options& o, const Given& g) { o.serve.request_timeout_ms = integer(g, 1); }},
    {"shutdown-timeout", "", "S", kServe, Group::serving, "Seconds for requests under way at the end. Default: 30.",
     [](Options& o, const Given& g) { o.serve.shutdown_timeout = std::chrono::seconds(integer(g, 0, 86400)); }},
    {"reasoning-field", "", "NAME", kServe, Group::serving,
     "What holds the model's thoughts: reasoning, reasoning_content or both. Default: both.",
     [](Options& o, const Given& g) {
       o.serve.reasoning_field = one_of(g, {"both", "reasoning", "reasoning_content"});
     }},
    {"strict-fields", "", "", kServe, Group::serving, "Refuse requests with fields that nobody knows.",
     [](Options& o, const Given& g) { o.serve.strict_fields = boolean(g); }},
    {"disable-access-log", "", "", kServe, Group::serving, "No line for each request.",
     [](Options& o, const Given& g) { o.serve.access_log = !boolean(g); }},
    {"insecure", "", "", kServe | kBenchServe, Group::serving,
     "No warning where everybody may ask; of bench serve: believe any certificate of a server.",
     [](Options& o, const Given& g) { o.serve.insecure = boolean(g); }},
    {"print-config", "", "", kServe, Group::serving, "Print what is in force and where it came from, and end.",
     [](Options& o, const Given& g) { o.serve.print_config = boolean(g); }},
});

}  // namespace

std::span<const Flag> serving_flags() { return kFlags; }

}  // namespace cajal::cli
