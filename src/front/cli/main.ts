#!/usr/bin/env node
/** The process behind `quire`: streams, Ctrl-C, a closed pipe, and the exit code. */
import { readFileSync } from "node:fs";
import { run } from "./program.ts";

const manifest = new URL("../../../package.json", import.meta.url);
const { version } = JSON.parse(readFileSync(manifest, "utf8")) as { version: string };

const interrupted = new AbortController();
process.once("SIGINT", () => interrupted.abort());
process.once("SIGTERM", () => interrupted.abort());

// The reader of a pipe may leave early (`quire ls x | head`): that is its right, not an error.
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code === "EPIPE") process.exit(0);
  throw error;
});

process.exitCode = await run(process.argv.slice(2), process, version, interrupted.signal);
// What a reader has not taken would keep the process waiting for it.
if (interrupted.signal.aborted) process.exit();
