// Answers with the same bytes: standard input and output are the connection.

const data = new ArrayBuffer(8192);

for (let length = process.stdin.read(data); length > 0; length = process.stdin.read(data)) {
  process.stdout.write(data.slice(0, length));
}
