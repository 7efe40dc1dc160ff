// The least that a transfer can cost: bytes out, one byte back, no framing, no checksum.
// raw_sender HOST PORT BYTES TIMES -> {"transfer_ns":[..]}
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

int main(int argc, char** argv) {
  if (argc != 5) {
    std::fprintf(stderr, "raw_sender HOST PORT BYTES TIMES\n");
    return 64;
  }
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<std::uint16_t>(std::atoi(argv[2])));
  inet_pton(AF_INET, argv[1], &address.sin_addr);
  const int sock = socket(AF_INET, SOCK_STREAM, 0);
  const int on = 1;
  setsockopt(sock, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  if (connect(sock, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    return 71;
  }
  const std::vector<char> bytes(std::strtoul(argv[3], nullptr, 10), 'x');
  std::printf("{\"transfer_ns\":[");
  for (int i = 0, times = std::atoi(argv[4]); i < times; ++i) {
    const auto start = std::chrono::steady_clock::now();
    for (std::size_t sent = 0; sent < bytes.size();) {
      const ssize_t now = send(sock, bytes.data() + sent, bytes.size() - sent, MSG_NOSIGNAL);
      if (now <= 0) {
        return 72;
      }
      sent += static_cast<std::size_t>(now);
    }
    char answer = 0;
    if (recv(sock, &answer, 1, 0) != 1) {
      return 72;
    }
    const auto took = std::chrono::steady_clock::now() - start;
    std::printf("%s%lld", i == 0 ? "" : ",",
                static_cast<long long>(std::chrono::duration_cast<std::chrono::nanoseconds>(took).count()));
    usleep(2000);  // as long as a receiver needs to answer and store
  }
  std::printf("]}\n");
  close(sock);
}
