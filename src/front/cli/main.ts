#!/usr/bin/env node
/** The process behind `quire`: streams, Ctrl-C, a closed pipe, and the exit code. */
import { readFileSync } from "node:fs";
import { setFlagsFromString } from "node:v8";
import { plainLine } from "./output.ts";
import { run } from "./program.ts";

// A command is over in a second or two: what V8 would optimise at once costs more than it saves, on
// threads that are in the way of those that read and write. Known of the engines of these versions.
const nodeMajor = Number.parseInt(process.versions.node, 10);
if (nodeMajor <= 22) setFlagsFromString("--interrupt-budget=660000");

const manifest = new URL("../../../package.json", import.meta.url);
const { version } = JSON.parse(readFileSync(manifest, "utf8")) as { version: string };

const interrupted = new AbortController();
process.once("SIGINT", () => interrupted.abort());
process.once("SIGTERM", () => interrupted.abort());

// A command that changes something is not left in the middle because nobody takes what it prints.
let mustFinish = false;
let lost: NodeJS.ErrnoException | undefined;

function outputLost(error: NodeJS.ErrnoException): never {
  // The reader of a pipe may leave early (`quire ls x | head`): that is its right, not an error.
  if (error.code === "EPIPE") process.exit(process.exitCode ?? 0);
  process.stderr.write(`quire: ${plainLine(error.message)} to standard output\n`);
  process.exit(1);
}

process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  lost ??= error;
  if (!mustFinish) outputLost(error);
});
// Where there is no one to tell, the exit code tells it.
process.stderr.on("error", () => {});

const streams = {
  stdout: process.stdout,
  stderr: process.stderr,
  stdin: process.stdin,
  mustFinish: () => {
    mustFinish = true;
  },
};
process.exitCode = await run(process.argv.slice(2), streams, version, interrupted.signal);
if (lost !== undefined) outputLost(lost);
mustFinish = false;
// What a reader has not taken would keep the process waiting for it.
if (interrupted.signal.aborted) process.exit();
