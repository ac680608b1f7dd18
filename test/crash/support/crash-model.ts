/**
 * What a power cut may leave of a tree, by what was promised: a model that follows a workload.
 *
 *     trees     0: as it was    1: after create a/y    2: after rename ..        in order
 *     content   of each file: 0: empty    1: 5000 bytes    2: cut to 100 ..     in order
 *     promises  at time 17: tree 2, content 1 of a/y                            fsync returned
 *               at time 21: content 2 of a/y, bytes 0 to 100                   a write with O_DSYNC
 *
 * A tree is that of one moment, whole; so is each byte of a file, with the promise below and what
 * had been begun above. Times are numbers of events of the disk.
 */

/** What a file has after one of its changes. */
export interface CrashContent {
  readonly bytes: Uint8Array;
  /** From this time on it may be there. */
  readonly since: number;
  /**
   * The change sets the size at once, whether what was written before it has been written out or
   * not: that may read as zeros.
   */
  readonly isResized: boolean;
}

/** What a node is to whoever looks, beside its number, names and content. */
export interface CrashAttributes {
  mode: number;
  readonly xattrs: Map<string, string>;
}

/** `born` of a node that was made without a name. */
export const NAMELESS = -1;

/** What a name leads to. */
export type CrashKind = "file" | "directory" | "symlink" | "special";

/** A file, directory, symlink or pipe, whatever names it has. */
export class CrashNode {
  readonly kind: CrashKind;
  ino = 0;
  target = "";
  links = 1;
  /** Replaced when it changes; of a new node it is filled in once the node is made. */
  attributes: CrashAttributes = { mode: 0, xattrs: new Map() };
  readonly contents: CrashContent[] = [];
  /** Number of the last tree that a change of this node has made. */
  tree = 0;
  /** Number of the tree in which it was made. */
  born = 0;

  constructor(kind: CrashKind) {
    this.kind = kind;
  }

  /** What a file has now. */
  get bytes(): Uint8Array {
    return this.contents.at(-1)!.bytes;
  }

  /** As `attributes`, to be changed. */
  copyAttributes(): CrashAttributes {
    const { mode, xattrs } = this.attributes;
    this.attributes = { mode, xattrs: new Map(xattrs) };
    return this.attributes;
  }
}

/** A tree of names. */
export interface CrashTree {
  /** From this time on it may be there. */
  readonly since: number;
  readonly nodes: ReadonlyMap<string, CrashNode>;
  /** What is compared, by path, with the inode numbers filled in later. */
  readonly facts: ReadonlyMap<string, () => NodeFacts>;
}

/** That bytes `from..end` of a file are at least as new as one of its contents. */
interface PromisedContent {
  readonly node: CrashNode;
  readonly content: number;
  readonly from: number;
  readonly end: number;
}

interface Promised {
  readonly time: number;
  readonly tree: number;
  readonly contents: readonly PromisedContent[];
}

/** A content that is there wherever the name is that has replaced another. */
interface Replaced {
  readonly tree: number;
  readonly node: CrashNode;
  readonly content: number;
}

/** Contents that the bytes of a file may be of, the oldest first. */
export interface AllowedContents {
  readonly contents: readonly CrashContent[];
  /** Index of the first of them that the byte at `at` may be of. */
  readonly first: (at: number) => number;
  /** Index of the first of them that the size may be of. */
  readonly firstSize: number;
  /** Index of the first of them that the file may be as a whole. */
  readonly firstWhole: number;
  /** What was not promised may be what lay there before. */
  readonly mayBeStale?: boolean;
  /** Bytes of a block, where each block is as a whole of one of them; 0 where it may be torn. */
  readonly wholeBytes?: number;
}

/** What a node is to whoever looks. */
export interface NodeFacts {
  readonly kind: CrashKind;
  readonly ino: number;
  readonly links: number;
  readonly target: string;
  readonly attributes: CrashAttributes;
}

/** Text that two nodes have in common exactly if they are the same to whoever looks. */
export function textOf({ kind, ino, links, target, attributes }: NodeFacts): string {
  const { mode, xattrs } = attributes;
  const shown = [...xattrs].map(([name, value]) => `${name}=${value}`).sort();
  return `${kind} ${ino} mode ${mode.toString(8)} links ${links} ${target} ${shown.join(" ")}`;
}

/** See the head of the file. */
export class CrashModel {
  readonly trees: CrashTree[] = [];
  readonly promises: Promised[] = [];
  readonly replaced: Replaced[] = [];
  /** Bytes of a block, for operations on whole ones. */
  readonly blockBytes: number;
  readonly #now: () => number;

  /** `now` tells the time. */
  constructor(blockBytes: number, now: () => number) {
    this.blockBytes = blockBytes;
    this.#now = now;
    this.trees.push({ since: 0, nodes: new Map(), facts: new Map() });
  }

  get tree(): CrashTree {
    return this.trees.at(-1)!;
  }

  get treeNumber(): number {
    return this.trees.length - 1;
  }

  node(path: string): CrashNode | undefined {
    return this.tree.nodes.get(path);
  }

  /**
   * The tree is changed from now on by what `change` does to its copy; `touched` are the nodes that
   * the operation changes.
   */
  changeTree(touched: readonly CrashNode[], change: (nodes: Map<string, CrashNode>) => void): void {
    const nodes = new Map(this.tree.nodes);
    change(nodes);
    const links = linksOf(nodes);
    const facts = new Map<string, () => NodeFacts>();
    for (const [path, node] of nodes) {
      const { kind, target, attributes } = node;
      const count = links.get(node)!;
      facts.set(path, () => ({ kind, ino: node.ino, links: count, target, attributes }));
    }
    this.trees.push({ since: this.#now(), nodes, facts });
    for (const node of touched) {
      node.tree = this.treeNumber;
      if (node.born === 0) node.born = this.treeNumber;
    }
  }

  /** The file has `bytes` from now on, or is on its way there. */
  changeContent(node: CrashNode, bytes: Uint8Array, isResized = false): void {
    node.contents.push({ bytes, since: this.#now(), isResized });
  }

  /** Takes the last change of the tree back: it was refused. */
  dropTree(): void {
    this.trees.pop();
  }

  /** What is promised as soon as the returned function is called, which tells that it is. */
  promise(tree: number, nodes: Iterable<CrashNode>): () => void {
    return this.#promised(tree, [...nodes], 0, Infinity);
  }

  /** As `promise`, of bytes `from..end` of one file. */
  promiseRange(tree: number, node: CrashNode, from: number, end: number): () => void {
    return this.#promised(tree, [node], from, end);
  }

  /** All that there is now, for `sync`. */
  promiseAll(): () => void {
    const files = [...this.tree.nodes.values()].filter(({ kind }) => kind === "file");
    return this.promise(this.treeNumber, files);
  }

  /** Has the newest tree show the content that `node` has now, or a newer one. */
  replace(node: CrashNode): void {
    this.replaced.push({ tree: this.treeNumber, node, content: node.contents.length - 1 });
  }

  /** Numbers of the oldest and newest tree that may be there after a power cut at `time`. */
  treesAt(time: number): { readonly oldest: number; readonly newest: number } {
    let oldest = 0;
    for (const promised of this.promises) {
      if (promised.time <= time) oldest = Math.max(oldest, promised.tree);
    }
    let newest = 0;
    for (const [number, { since }] of this.trees.entries()) if (since <= time) newest = number;
    return { oldest, newest };
  }

  /** The contents that bytes of `node` may be of, after a power cut at `time` that left `tree`. */
  contentsAt(node: CrashNode, time: number, tree: number): AllowedContents {
    const ranges = this.promises
      .filter((promised) => promised.time <= time)
      .flatMap(({ contents }) => contents.filter((promised) => promised.node === node));
    let oldest = 0;
    for (const { content, end } of ranges) if (end === Infinity) oldest = Math.max(oldest, content);
    for (const replaced of this.replaced) {
      if (replaced.node === node && replaced.tree <= tree) {
        oldest = Math.max(oldest, replaced.content);
      }
    }
    const newer = ranges.filter(({ content }) => content > oldest);
    const needed = Math.max(oldest, ...newer.map(({ content }) => content));
    const isPossible = ({ since }: CrashContent, at: number): boolean =>
      at <= needed || since <= time;
    const first = (at: number): number => {
      let index = 0;
      for (const { content, from, end } of newer) {
        if (at >= from && at < end) index = Math.max(index, content - oldest);
      }
      return index;
    };
    // A write that ends where the file ends has made it that long.
    let firstSize = 0;
    for (const { content, end } of newer) {
      if (end >= node.contents[content]!.bytes.length) {
        firstSize = Math.max(firstSize, content - oldest);
      }
    }
    const contents = node.contents.filter(isPossible).slice(oldest);
    return { contents, first, firstSize, firstWhole: needed - oldest };
  }

  /** Differs where something else is promised, or has been begun. */
  promisesAt(time: number): string {
    const promised = this.promises.filter((each) => each.time <= time).length;
    const begun = this.trees.filter(({ since }) => since <= time).length;
    return `${promised} ${begun}`;
  }

  #promised(tree: number, nodes: readonly CrashNode[], from: number, end: number): () => void {
    const contents = nodes.map((node) => {
      return { node, content: node.contents.length - 1, from, end };
    });
    return () => {
      this.promises.push({ time: this.#now(), tree, contents });
    };
  }
}

/** Links of each node: names, and for a directory itself and the directories in it. */
function linksOf(nodes: ReadonlyMap<string, CrashNode>): Map<CrashNode, number> {
  const links = new Map<CrashNode, number>();
  for (const node of nodes.values()) links.set(node, (links.get(node) ?? 0) + 1);
  for (const [path, node] of nodes) {
    if (node.kind !== "directory") continue;
    links.set(node, links.get(node)! + 1);
    const parent = nodes.get(path.slice(0, Math.max(0, path.lastIndexOf("/"))));
    if (parent !== undefined) links.set(parent, (links.get(parent) ?? 0) + 1);
  }
  return links;
}
