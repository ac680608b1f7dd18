/** Reads a whole image through a cache of 64 MiB and prints the process's peak memory in bytes. */
import { readFileSync } from "node:fs";
import { openImage } from "../dist/index.js";
import { walkAndStat } from "./counts.mjs";

const volume = await openImage(process.argv[2], { cache: "64MiB" });
await walkAndStat(volume.fs, "/small");
const handle = await volume.fs.open("/large.bin");
const buffer = Buffer.alloc(1024 * 1024);
while ((await handle.read(buffer, 0, buffer.length, null)).bytesRead > 0);
await volume.close();
// Of this program alone: what getrusage tells would count the process that started it.
const status = readFileSync("/proc/self/status", "utf8");
console.log(Number(/VmHWM:\s+(\d+) kB/.exec(status)[1]) * 1024);
