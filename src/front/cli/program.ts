/**
 * The command line: `quire VERB IMAGE [PATH...] [OPTIONS]`, put together from the files beside this
 * one.
 *
 * `run` takes arguments and streams and gives an exit code, so that tests call it without a
 * process.
 */
import { Command, CommanderError } from "commander";
import type { DiskInfo } from "../disk.ts";
import { walkTree } from "../tree/walk.ts";
import {
  type CommandContext,
  type CommonOptions,
  EXIT_DONE,
  EXIT_USAGE,
  report,
  sizeOption,
  wholeNumber,
  withCommonOptions,
  withVolume,
  withVolumeOrDisk,
} from "./command.ts";
import { GET_CACHE_BYTES, runGet } from "./get.ts";
import { diskText, infoText } from "./info.ts";
import { runDu, runFind, runLs } from "./list.ts";
import { type ContentMemo, manifestOf } from "./manifest.ts";
import { extentJson, mapText } from "./map.ts";
import {
  jsonLine,
  loadProgress,
  Progress,
  printable,
  printJson,
  type Streams,
  writeAll,
} from "./output.ts";
import { addWriteCommands } from "./program-write.ts";
import { runCat, runStat } from "./show.ts";
import { statsText } from "./stats-text.ts";
import { TREE_BOUNDS, type TreeBounds, treeOf, treeText } from "./tree.ts";

const EXIT_HELP =
  "\nExit codes: 0 done, 1 failed, 2 wrong arguments, 3 the image is damaged, 130 interrupted.\n";

const number =
  (name: string) =>
  (text: string): number =>
    wholeNumber(text, name);

/** For a tree: damage is reported, and the rest is drawn. */
function reporting(context: CommandContext): Pick<TreeBounds, "signal" | "onError"> {
  return { signal: context.signal, onError: (error) => report(error, context) };
}

/** Adds `quire VERB IMAGE ..` with the common options and its examples. */
function verb(program: Command, usage: string, description: string, examples: string): Command {
  const command = withCommonOptions(program.command(usage).description(description));
  return command.addHelpText("after", `\nExamples:\n${examples}`);
}

function addInfo(program: Command, context: CommandContext): void {
  verb(
    program,
    "info <image>",
    "what the image is: partitions, layout, features, usage",
    "  quire info disk.img\n  quire info disk.img --partition 2 --json\n",
  ).action((image: string, options: CommonOptions) =>
    withVolumeOrDisk(
      image,
      options,
      context,
      async (volume) => {
        if (options.json === true) printJson(context.stdout, volume.info());
        else await writeAll(context, infoText(volume));
      },
      (disk) => showDisk(disk, options, context),
    ),
  );
}

function addTree(program: Command, context: CommandContext): void {
  verb(
    program,
    "tree <image> [path]",
    "the directory tree, cut to a bound that it names",
    "  quire tree disk.img\n  quire tree disk.img /etc --depth 2\n",
  )
    .option("--depth <n>", "levels to draw", number("--depth"), TREE_BOUNDS.depthMax)
    .option("--entries <n>", "entries of a directory", number("--entries"), TREE_BOUNDS.entriesMax)
    .option("--lines <n>", "lines in all", number("--lines"), TREE_BOUNDS.linesMax)
    .action(
      (
        image: string,
        path: string | undefined,
        options: CommonOptions & { depth: number; entries: number; lines: number },
      ) =>
        withVolume(image, options, context, async (volume) => {
          const start = await volume.fs.inode(path ?? "/");
          const { depth: depthMax, entries: entriesMax, lines: linesMax } = options;
          const bounds = { depthMax, entriesMax, linesMax, ...reporting(context) };
          const name = printable(path ?? "/");
          const tree = await treeOf(volume.fileSystem, start, name, bounds);
          if (options.json === true) printJson(context.stdout, tree);
          else await writeAll(context, treeText(tree));
        }),
    );
}

function addShow(program: Command, context: CommandContext): void {
  verb(
    program,
    "cat <image> <path...>",
    "the content of files, byte for byte",
    "  quire cat disk.img /etc/os-release\n",
  ).action((image: string, paths: string[], options: CommonOptions) =>
    withVolume(image, options, context, (volume) => runCat(volume, paths, options, context)),
  );
  verb(
    program,
    "stat <image> <path...>",
    "everything that an inode tells, with its extended attributes",
    "  quire stat disk.img /bin/sh\n  quire stat disk.img /bin/sh --json\n",
  )
    .option("-L, --dereference", "follow a symlink")
    .action((image: string, paths: string[], options: CommonOptions) =>
      withVolume(image, options, context, (volume) => runStat(volume, paths, options, context)),
    );
  verb(
    program,
    "map <image> <path>",
    "where a file lies: its extents, drawn and listed",
    "  quire map disk.img /var/lib/big.db\n",
  ).action((image: string, path: string, options: CommonOptions) =>
    withVolume(image, options, context, async (volume) => {
      const inode = await volume.fs.inode(path);
      const extents = await volume.fileSystem.extents(inode, context.signal);
      if (options.json === true) printJson(context.stdout, extents.map(extentJson));
      else await writeAll(context, mapText(volume.fileSystem, inode.size, extents));
    }),
  );
}

function addList(program: Command, context: CommandContext): void {
  verb(
    program,
    "ls <image> [path...]",
    "names in directories",
    "  quire ls disk.img\n  quire ls disk.img /etc -la\n",
  )
    .option("-l, --long", "mode, links, owner, size, time")
    .option("-a, --all", "names that begin with a dot too")
    .action((image: string, paths: string[], options: CommonOptions) =>
      withVolume(image, options, context, (volume) =>
        runLs(volume, paths.length === 0 ? ["/"] : paths, options, context),
      ),
    );
  verb(
    program,
    "find <image> [path]",
    "paths of files that fit",
    "  quire find disk.img / --name '*.conf' --type f\n",
  )
    .option("--name <pattern>", "names that match a shell pattern")
    .option("--type <letter>", "f d l c b p s")
    .option("--maxdepth <n>", "levels below the path", number("--maxdepth"))
    .action((image: string, path: string | undefined, options: CommonOptions) =>
      withVolume(image, options, context, (volume) =>
        runFind(volume, path ?? "/", options, context),
      ),
    );
  verb(
    program,
    "du <image> [path]",
    "space used below each directory",
    "  quire du disk.img /usr\n  quire du disk.img -s\n",
  )
    .option("-s, --summarize", "the total alone")
    .action((image: string, path: string | undefined, options: CommonOptions) =>
      withVolume(image, options, context, (volume) => runDu(volume, path ?? "/", options, context)),
    );
}

function addManifest(program: Command, context: CommandContext): void {
  verb(
    program,
    "manifest <image> [path]",
    "one JSON object for each file: attributes, content hash, data ranges, xattrs",
    "  quire manifest disk.img > before.jsonl\n",
  ).action((image: string, path: string | undefined, options: CommonOptions) =>
    withVolume(image, options, context, async (volume) => {
      const start = await volume.fs.inode(path ?? "/", { followLinks: false });
      const progress = new Progress("hashed", context);
      const memo: ContentMemo = new Map();
      const { signal } = context;
      const onError = (_path: Uint8Array, error: unknown): void => report(error, context);
      try {
        for await (const visit of walkTree(volume.fileSystem, start, { signal, onError })) {
          const line = await manifestOf(
            volume.fileSystem,
            visit,
            (bytes) => progress.add(0, bytes),
            (error) => report(error, context),
            signal,
            memo,
          );
          progress.add(1, 0);
          await writeAll(context, jsonLine(line));
        }
      } finally {
        progress.done();
      }
    }),
  );
}

function addGet(program: Command, context: CommandContext): void {
  verb(
    program,
    "get <image> <source> <destination>",
    "copy a file or directory out of the image, as cp -a does",
    "  quire get disk.img /etc ./etc-of-image\n  quire get disk.img /boot/vmlinuz .\n",
  )
    .option(
      "--max-bytes <size>",
      "refuse to write more than this (default: 4 times the image, at least 1GiB)",
      (text: string) => sizeOption(text, "--max-bytes"),
    )
    .option("--max-files <n>", "refuse to make more files", number("--max-files"), 1_000_000)
    .option("--owner", "set owners and groups (default as root)")
    .option("--no-owner", "leave owners alone")
    .option("--xattrs", "set extended attributes (default as root)")
    .option("--no-xattrs", "leave extended attributes out")
    .option("--special", "make device nodes, FIFOs and sockets (default as root)")
    .option("--no-special", "leave device nodes, FIFOs and sockets out")
    .option("--preserve-privileges", "keep setuid, setgid, capabilities and trusted xattrs")
    .option("--allow-external-symlinks", "keep symlinks that lead out of the destination")
    .action((image: string, source: string, destination: string, options: CommonOptions) =>
      withVolume(image, { cache: GET_CACHE_BYTES, ...options }, context, (volume) =>
        runGet(volume, source, destination, options, context),
      ),
    );
}

function addOverview(program: Command, context: CommandContext): void {
  verb(
    program,
    "overview <image>",
    "info, tree and what the page cache and the store did for them",
    "  quire overview disk.img\n",
  ).action((image: string, options: CommonOptions) =>
    withVolumeOrDisk(
      image,
      options,
      context,
      async (volume) => {
        const start = await volume.fs.inode("/");
        const bounds = { ...TREE_BOUNDS, ...reporting(context) };
        const tree = await treeOf(volume.fileSystem, start, "/", bounds);
        if (options.json === true) {
          printJson(context.stdout, { info: volume.info(), tree, stats: volume.stats() });
          return;
        }
        await writeAll(context, `${infoText(volume)}\nTree\n${treeText(tree)}\n`);
        await writeAll(context, `What this took\n${statsText(volume.stats())}`);
      },
      (disk) => showDisk(disk, options, context),
    ),
  );
}

/** What a disk is from which no file system could be chosen. */
async function showDisk(
  disk: DiskInfo,
  options: CommonOptions,
  context: CommandContext,
): Promise<void> {
  if (options.json === true) printJson(context.stdout, disk);
  else await writeAll(context, diskText(disk));
}

/** The program, ready to parse. */
export function makeProgram(context: CommandContext, version: string): Command {
  const program = new Command("quire")
    .description("Read, change and make ext2/3/4 images through a real page cache.")
    .version(version)
    .exitOverride()
    .configureOutput({
      writeOut: (text) => context.stdout.write(text),
      writeErr: (text) => context.stderr.write(text),
    })
    .addHelpText("after", EXIT_HELP);
  addInfo(program, context);
  addTree(program, context);
  addList(program, context);
  addShow(program, context);
  addManifest(program, context);
  addGet(program, context);
  addOverview(program, context);
  addWriteCommands(program, context);
  for (const command of program.commands) command.exitOverride().copyInheritedSettings(program);
  return program;
}

/** Runs `args` (without node and script) and returns the exit code; nothing is thrown. */
export async function run(
  args: readonly string[],
  streams: Streams,
  version: string,
  signal: AbortSignal,
): Promise<number> {
  let exitCode = EXIT_DONE;
  const context: CommandContext = {
    ...streams,
    signal,
    fail: (code) => {
      exitCode = Math.max(exitCode, code);
    },
  };
  try {
    await loadProgress(streams);
    await makeProgram(context, version).parseAsync([...args], { from: "user" });
  } catch (error) {
    if (!(error instanceof CommanderError)) report(error, context);
    else if (error.exitCode !== 0) context.fail(EXIT_USAGE);
  }
  return exitCode;
}
