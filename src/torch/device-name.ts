// The names of devices: cpu, cuda, cuda:1. Every device that is not a CPU is a GPU.
export const isCpu = (device: string): boolean => device === "cpu" || device.startsWith("cpu:");

/** The index of a GPU; "cuda" is 0. */
export const deviceIndex = (device: string): number => Number(device.split(":")[1] ?? 0);
