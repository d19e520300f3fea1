module drydock.local/tools/pod-program

go 1.24
