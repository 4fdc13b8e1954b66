// Every command, in the order of `revmoe --help`, with its line there; --help loads nothing else of it. A new command
// is an entry here, a file of words and settings in this folder, and a file in run/ for its work.
import type { Command } from "./command.js";

export interface RegisteredCommand {
  /** One line for `revmoe --help`: a capital letter, a verb first, no full stop. */
  readonly about: string;
  /** Its words and settings, which are loaded when the command is used. */
  load(): Promise<Command>;
}

export const COMMANDS: Readonly<Record<string, RegisteredCommand>> = {
  init: {
    about: "Ask a few questions, and write the settings file of a run that fits the machine",
    load: async () => (await import("./init.js")).command,
  },
  train: {
    about: "Fine-tune all parameters of a Mixture-of-Experts model",
    load: async () => (await import("./train.js")).command,
  },
  launch: {
    about: "Start a command as several ranks that train one model together",
    load: async () => (await import("./launch.js")).command,
  },
  dashboard: {
    about: "Show runs in a browser, while they train and after: loss, memory, experts, samples, settings",
    load: async () => (await import("./dashboard.js")).command,
  },
  data: {
    about: "Show rows as the model sees them: tokens, which of them are trained, lengths, what is cut",
    load: async () => (await import("./data.js")).command,
  },
  info: {
    about: "Describe a model: layers, parameters, weights, templates, and how this machine can train it",
    load: async () => (await import("./info.js")).command,
  },
  plan: {
    about: "Calculate the memory of a training step, term by term, and show which settings fit",
    load: async () => (await import("./plan.js")).command,
  },
  bench: {
    about: "Compare memory, time and gradients of training methods on the same work",
    load: async () => (await import("./bench.js")).command,
  },
  generate: {
    about: "Print what a model says to a prompt",
    load: async () => (await import("./generate.js")).command,
  },
  eval: {
    about: "Measure a model: loss on held-out rows, multiple choice, or exact match of answers",
    load: async () => (await import("./eval.js")).command,
  },
  export: {
    about: "Write a run's result as a Hugging Face folder",
    load: async () => (await import("./export.js")).command,
  },
  upcycle: {
    about: "Turn a dense model into a mixture of experts that computes the same, for further training",
    load: async () => (await import("./upcycle.js")).command,
  },
  verify: {
    about: "Check a model, a checkpoint, a run or a cached model for damage, and whether its files fit together",
    load: async () => (await import("./verify.js")).command,
  },
  setup: {
    about: "Get what is missing, and build the engine; LIBTORCH=/path chooses a libtorch, and is remembered",
    load: async () => (await import("./setup.js")).command,
  },
  doctor: {
    about: "Show what was found (libtorch, devices, BLAS, processor, memory), what is missing, and how to get it",
    load: async () => (await import("./doctor.js")).command,
  },
  quickstart: {
    about: "Fine-tune the tiny model in examples/ on real text, and show its loss and memory",
    load: async () => (await import("./quickstart.js")).command,
  },
  completion: {
    about: "Print a script that makes bash, zsh or fish complete commands, flags and choices",
    load: async () => (await import("./completion.js")).command,
  },
};
